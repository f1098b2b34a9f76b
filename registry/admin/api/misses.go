package api

import "time"

// Miss is a manifest that clients asked for and did not get.
type Miss struct {
	Repository string    `json:"repository"` // below the host that containerd named with ns=, if no upstream is that
	Reference  string    `json:"reference"`  // a tag or a digest
	Count      int       `json:"count"`
	First      time.Time `json:"first"`
	Last       time.Time `json:"last"`
	User       string    `json:"user,omitempty"` // of the last time; "" for one without a login
	Address    string    `json:"address"`        // of the last time
}
