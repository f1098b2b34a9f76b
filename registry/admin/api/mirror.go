package api

import (
	"errors"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// MirrorRequest asks for a run of an image set that the configuration names.
type MirrorRequest struct {
	ImageSet string `json:"imageSet"` // its file, as the configuration has it
}

// Check returns an error unless the request can be granted.
func (q MirrorRequest) Check() error {
	if q.ImageSet == "" {
		return hint.New(errors.New("no image set is named"), "name one of sync in config.yaml")
	}
	return nil
}

// MirrorProgress is the progress of a run.
type MirrorProgress struct {
	Began    time.Time `json:"began"`
	Waiting  bool      `json:"waiting"`  // for the run of another image set
	Resolved int       `json:"resolved"` // images whose manifests have been read
	Planned  bool      `json:"planned"`  // Images and Bytes are known
	Images   int       `json:"images"`
	Bytes    int64     `json:"bytes"` // to fetch
	Copied   int       `json:"copied"`
	Existed  int       `json:"existed"`
	Failed   int       `json:"failed"`
	Fetched  int64     `json:"fetched"` // bytes
}

// MirrorResult is what a run did.
type MirrorResult struct {
	Began     time.Time       `json:"began"`
	Ended     time.Time       `json:"ended"`
	Mirrored  int             `json:"mirrored"` // images that are here, verified
	Planned   int             `json:"planned"`
	Fetched   int64           `json:"fetched"`             // bytes
	Failures  []MirrorFailure `json:"failures,omitempty"`  // the first of them
	Warnings  []string        `json:"warnings,omitempty"`  // the first of them
	Report    string          `json:"report,omitempty"`    // its file, which has all of them
	Resources []string        `json:"resources,omitempty"` // files of the cluster's resources
	Error     string          `json:"error,omitempty"`     // why the run is not a success; only in a status
}

// MirrorFailure is an image that could not be mirrored.
type MirrorFailure struct {
	Image string `json:"image"`
	Error string `json:"error"`
}

// MirrorState is the state of an image set that the configuration names.
type MirrorState struct {
	ImageSet string          `json:"imageSet"`
	Every    Duration        `json:"every"`
	Running  *MirrorProgress `json:"running,omitempty"`
	Last     *MirrorResult   `json:"last,omitempty"` // also one that failed; not one that was stopped
}
