// Package admin is the control API, by which commands and administrators act on a running
// daemon: its handler and its client.
//
// One handler serves two doors. On the unix socket ([Listen]) the file mode 0600 is the login;
// over HTTPS, under /api/v1, the caller must be a user of role admin, which package registry
// sees to. Requests and answers are JSON; an error is {"error": "...", "hint": "..."}.
//
//	GET    /api/v1/ping                                        → 204, if a daemon answers
//	GET    /api/v1/status
//	POST   /api/v1/gc                                          {dryRun, gracePeriod, detach} → lines, see jobs.go
//	POST   /api/v1/verify                                      {content, bytesPerSecond} → lines
//	POST   /api/v1/scrub                                       {bytesPerSecond} → lines
//	POST   /api/v1/backup                                      on the socket only → lines, see backup.go
//	DELETE /api/v1/backup/{snapshot}
//	GET    /api/v1/users
//	POST   /api/v1/users                                       {name, role, password}
//	PUT    /api/v1/users/{name}                                {role, password}, what is given changes
//	DELETE /api/v1/users/{name}
//	POST   /api/v1/sync                                        {name} → {id}
//	POST   /api/v1/sync/{id}/held                              {blobs, manifests}: {repository: [digest]} → those held, and unconfirmed blobs
//	POST   /api/v1/sync/{id}/confirm                           {blobs: {repository: [{digest, size}]}} → those staged
//	PUT    /api/v1/sync/{id}/blobs/{digest}?repository=R       the bytes, with Content-Length
//	PUT    /api/v1/sync/{id}/manifests/{digest}?repository=R   the bytes, with Content-Type
//	POST   /api/v1/sync/{id}/tags                              {tags: [{repository, tag, digest}]}
//	POST   /api/v1/sync/{id}/sources                           {sources: {repository: [registry/path]}}
//	POST   /api/v1/sync/{id}/commit
//	DELETE /api/v1/sync/{id}
//
// A sync stages what it is given: blobs and manifests are kept from collection and invisible
// to /v2 until the commit, which makes all of it visible at once. Each blob is one request, whose body goes straight
// into the store. A repository gets by a sync what was sent for it, what it shows already, and what the caller says that the
// source of that repository has confirmed; to name another repository's blob is not enough. gRPC and an upload session in the manner of /v2 were refused, since neither
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
	Services    map[string]bool `json:"services"`          // as /health/instance says
	Trouble     []Trouble       `json:"trouble,omitempty"` // what is not well, with what to do about it
	Store       *Stats          `json:"store,omitempty"`   // nil: it could not be counted
	Space       []Space         `json:"space"`             // of the storage, and of the database if that is elsewhere
	PullQuota   int64           `json:"pullQuota,omitempty"`
	Certificate time.Time       `json:"certificateNotAfter"`
	Renews      bool            `json:"certificateRenews"`    // by itself
	CA          *time.Time      `json:"caNotAfter,omitempty"` // nil: it is not known here
	GC          *GCProgress     `json:"gc,omitempty"`         // the collection under way
	LastGC      *GCResult       `json:"lastGC,omitempty"`     // also one that failed
	Scrub       *ScrubState     `json:"scrub,omitempty"`      // under way, or stopped half way
	LastScrub   *ScrubState     `json:"lastScrub,omitempty"`  // that came to its end
}

// Trouble is something that is not well.
type Trouble struct {
	Problem string `json:"problem"`
	Hint    string `json:"hint,omitempty"`
}

// Space is the room on a file system.
type Space struct {
	Path string `json:"path"`
	Free int64  `json:"free"` // bytes
	Kept int64  `json:"kept"` // bytes that pushes leave free

	Inodes     int64 `json:"inodes,omitempty"` // in total; 0: the file system has no limit
	FreeInodes int64 `json:"freeInodes"`
	KeptInodes int64 `json:"keptInodes,omitempty"` // that pushes leave free
}

// Stats counts what the store holds.
type Stats struct {
	Repositories int64 `json:"repositories"`
	Manifests    int64 `json:"manifests"`
	Tags         int64 `json:"tags"`
	Blobs        int64 `json:"blobs"`
	BlobBytes    int64 `json:"blobBytes"`
	Quarantined  int64 `json:"quarantined"` // blobs that are damaged and out of service
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
	// one. With 0 what was deleted goes at once; what a push that is under way may need stays for some minutes.
	GracePeriod *Duration `json:"gracePeriod,omitempty"`
	// Detach lets the daemon collect for itself: the answer comes when that has begun, and it goes on when the caller
	// has gone. How far it is, and how it ended, is in the status.
	Detach bool `json:"detach,omitempty"`
}

// Garbage counts what a collection removes.
type Garbage struct {
	Blobs   int   `json:"blobs"`
	Uploads int   `json:"uploads"` // that nobody finished
	Runs    int   `json:"runs"`    // staged by a sync that never ended
	Bytes   int64 `json:"bytes"`

	Manifests int `json:"manifests"` // that went since the last collection: with a deleted image at once
	Links     int `json:"links"`     // of blobs to repositories that had no use for them
}

// GCProgress is how far a collection is.
type GCProgress struct {
	Began   time.Time `json:"began"`
	DryRun  bool      `json:"dryRun,omitempty"`
	Planned bool      `json:"planned"` // all there is to remove is known
	Of      Garbage   `json:"of"`      // to remove, as far as it is known
	Done    Garbage   `json:"done"`    // removed
}

// GCResult is what a collection removed, or in a dry run would remove.
type GCResult struct {
	DryRun bool `json:"dryRun,omitempty"`
	Garbage
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`
	Error string    `json:"error,omitempty"` // why it stopped half way; only in a status

	// Plan is what a dry run would remove, the first 10,000 of it.
	Plan []PlannedBlob `json:"plan,omitzero"`
	More int           `json:"more,omitempty"` // blobs that are not listed
}

// PlannedBlob is a blob that a collection would remove.
type PlannedBlob struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
}

// User is an account, without its password.
type User struct {
	Name    string    `json:"name"`
	Role    string    `json:"role"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
	// Repositories are patterns of what the user may see, see image.CheckPattern; none: everything.
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

type (
	syncRequest struct {
		Name string `json:"name"`
	}
	syncAnswer struct {
		ID string `json:"id"`
	}
	// heldLists lists digests by repository: in a question those asked for, in an answer those held, and the blobs that only
	// other repositories have.
	heldLists struct {
		Blobs       map[string][]digest.Digest `json:"blobs,omitempty"`
		Manifests   map[string][]digest.Digest `json:"manifests,omitempty"`
		Unconfirmed map[string][]digest.Digest `json:"unconfirmed,omitempty"`
	}
	confirmRequest struct {
		Blobs map[string][]confirmedBlob `json:"blobs"`
	}
	confirmedBlob struct {
		Digest digest.Digest `json:"digest"`
		Size   int64         `json:"size"`
	}
	confirmAnswer struct {
		Blobs map[string][]digest.Digest `json:"blobs,omitempty"`
	}
	tagRequest struct {
		Tags []tag `json:"tags"`
	}
	tag struct {
		Repository string        `json:"repository"`
		Tag        string        `json:"tag"`
		Digest     digest.Digest `json:"digest"`
	}
	sourceRequest struct {
		Sources map[string][]string `json:"sources"`
	}
	errorAnswer struct {
		Error string `json:"error"`
		Hint  string `json:"hint,omitempty"`
	}
)

// Bounds of request bodies. Blobs have none.
const (
	maxJSON = 64 << 10
	maxList = 4 << 20
)

// atOnce is how many digests, blobs, tags or sources a client puts into one request: with the longest names of repositories and the
// longest digests they stay below maxList.
const atOnce = 5000
