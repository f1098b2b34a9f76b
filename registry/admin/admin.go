// Package admin is the control API, by which commands and administrators act on a running
// daemon: its handler and its client.
//
// One handler serves two doors. On the unix socket ([Listen]) the file mode 0600 is the login;
// over HTTPS, under /api/v1, the caller must be a user of role admin, which package registry
// sees to. Requests and answers are JSON; an error is {"error": "...", "hint": "..."}.
//
//	GET    /api/v1/status
//	POST   /api/v1/gc                                          {dryRun, gracePeriod}
//	POST   /api/v1/verify                                      {content, bytesPerSecond} → lines, see jobs.go
//	POST   /api/v1/scrub                                       {bytesPerSecond} → lines
//	POST   /api/v1/backup                                      {path, prune, bytesPerSecond} → lines
//	GET    /api/v1/users
//	POST   /api/v1/users                                       {name, role, password}
//	PUT    /api/v1/users/{name}                                {role, password}, what is given changes
//	DELETE /api/v1/users/{name}
//	POST   /api/v1/sync                                        {name} → {id}
//	POST   /api/v1/sync/{id}/held                              {repository, blobs, manifests} → those held
//	POST   /api/v1/sync/{id}/blobs/{digest}/check?repository=R → {held}
//	PUT    /api/v1/sync/{id}/blobs/{digest}?repository=R       the bytes, with Content-Length
//	POST   /api/v1/sync/{id}/manifests/{digest}/check?repository=R
//	PUT    /api/v1/sync/{id}/manifests/{digest}?repository=R   the bytes, with Content-Type
//	POST   /api/v1/sync/{id}/tags                              {repository, tag, digest}
//	POST   /api/v1/sync/{id}/source                            {repository, registry, path}
//	POST   /api/v1/sync/{id}/commit
//	DELETE /api/v1/sync/{id}
//
// A sync stages what it is given: blobs and manifests are kept from collection and invisible
// to /v2 until the commit, which makes all of it visible at once. Each blob is one request, whose body goes straight
// into the store; gRPC and an upload session in the manner of /v2 were refused, since neither
// gives more than a PUT with a length and a digest does.
package admin

import (
	"errors"
	"time"

	"github.com/opencontainers/go-digest"
)

// Product is the Server header of every answer, by which a client tells an appliance that refuses it from a registry
// of another kind.
const Product = "appliance"

// ErrCollecting is what a Collect function returns while another collection is under way.
var ErrCollecting = errors.New("a collection is under way already")

// ErrScrubbing is what a Scrub function returns while another scrub is under way.
var ErrScrubbing = errors.New("a scrub is under way already")

// Status is how the daemon is.
type Status struct {
	Version     string          `json:"version"`
	Address     string          `json:"address"` // host:port as clusters use it
	Started     time.Time       `json:"started"`
	Healthy     bool            `json:"healthy"`
	Services    map[string]bool `json:"services"` // as /health/instance says
	Store       Stats           `json:"store"`
	Certificate time.Time       `json:"certificateNotAfter"`
	LastGC      *GCResult       `json:"lastGC,omitempty"` // since the daemon started
}

// Stats counts what the store holds.
type Stats struct {
	Repositories int64 `json:"repositories"`
	Manifests    int64 `json:"manifests"`
	Tags         int64 `json:"tags"`
	Blobs        int64 `json:"blobs"`
	BlobBytes    int64 `json:"blobBytes"`
	Users        int64 `json:"users"`
}

// Duration is a time.Duration that JSON writes as 1h0m0s.
type Duration time.Duration

// MarshalText writes it as time.Duration does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// GCRequest asks for a collection.
type GCRequest struct {
	DryRun bool `json:"dryRun,omitempty"` // only say what would be removed
	// GracePeriod leaves alone what was pushed or asked for within it; nil is the configured
	// one. With 0, blobs of pushes that are under way may go, and those pushes then fail.
	GracePeriod *Duration `json:"gracePeriod,omitempty"`
}

// GCResult is what a collection removed, or in a dry run would remove.
type GCResult struct {
	DryRun  bool      `json:"dryRun,omitempty"`
	Blobs   int       `json:"blobs"`
	Uploads int       `json:"uploads"`
	Runs    int       `json:"runs"`
	Bytes   int64     `json:"bytes"`
	Ended   time.Time `json:"ended"`
}

// User is an account, without its password.
type User struct {
	Name    string    `json:"name"`
	Role    string    `json:"role"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
	// Repositories are patterns of what the user may see, see auth.CheckPattern; none: everything.
	Repositories []string `json:"repositories,omitempty"`
}

// NewUser is an account to create.
type NewUser struct {
	Name         string   `json:"name"`
	Role         string   `json:"role"`
	Password     string   `json:"password"`
	Repositories []string `json:"repositories,omitempty"` // patterns; none: everything
}

// UserChange changes what is not empty.
type UserChange struct {
	Role     string `json:"role,omitempty"`
	Password string `json:"password,omitempty"`
	// Repositories replaces the patterns; an empty list that is not nil takes them away.
	Repositories *[]string `json:"repositories,omitempty"`
}

// Held lists digests: in a question those asked for, in an answer those held.
type Held struct {
	Repository string          `json:"repository,omitempty"`
	Blobs      []digest.Digest `json:"blobs"`
	Manifests  []digest.Digest `json:"manifests"`
}

type (
	syncRequest struct {
		Name string `json:"name"`
	}
	syncAnswer struct {
		ID string `json:"id"`
	}
	checkAnswer struct {
		Held bool `json:"held"`
	}
	tagRequest struct {
		Repository string        `json:"repository"`
		Tag        string        `json:"tag"`
		Digest     digest.Digest `json:"digest"`
	}
	sourceRequest struct {
		Repository string `json:"repository"`
		Registry   string `json:"registry"`
		Path       string `json:"path"`
	}
	errorAnswer struct {
		Error string `json:"error"`
		Hint  string `json:"hint,omitempty"`
	}
)

// Bounds of request bodies. Blobs have none.
const (
	maxJSON     = 64 << 10
	maxHeld     = 4 << 20 // some 50,000 digests
	maxManifest = 4 << 20
)
