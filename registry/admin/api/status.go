package api

import (
	"cmp"
	"time"
)

// Status is the state of the daemon.
type Status struct {
	Version  string          `json:"version"`
	Address  string          `json:"address"` // host:port as clusters use it
	Started  time.Time       `json:"started"`
	Socket   string          `json:"controlSocket"` // its path on the daemon's host
	Healthy  bool            `json:"healthy"`
	Services map[string]bool `json:"services"` // as in /health/instance
	// Failing has for each service that is not healthy why, and what to do about it.
	Failing     map[string]Trouble `json:"failing,omitempty"`
	Database    string             `json:"database"`          // its file, or the address of its server without a password
	Offline     bool               `json:"offline,omitempty"` // no other host is asked
	Trouble     []Trouble          `json:"trouble,omitempty"` // what is wrong, with what to do about it
	Store       *Stats             `json:"store,omitempty"`   // nil: it could not be counted
	Space       []Space            `json:"space"`             // of the storage, and of the database if that is elsewhere
	Traffic     *Traffic           `json:"traffic,omitempty"`
	PullQuota   int64              `json:"pullQuota,omitempty"`
	Certificate time.Time          `json:"certificateNotAfter"`
	Renews      bool               `json:"certificateRenews"`    // by itself
	CA          *time.Time         `json:"caNotAfter,omitempty"` // nil: it is not known here
	GC          *GCProgress        `json:"gc,omitempty"`         // the collection under way
	LastGC      *GCResult          `json:"lastGC,omitempty"`     // also one that failed
	NextGC      *time.Time         `json:"nextGC,omitempty"`     // when it begins by itself, at any daemon; nil: it runs, or is never to
	NextScrub   *time.Time         `json:"nextScrub,omitempty"`  // likewise
	Scrub       *ScrubState        `json:"scrub,omitempty"`      // under way, or stopped half way
	LastScrub   *ScrubState        `json:"lastScrub,omitempty"`  // that completed
	Verify      *VerifyProgress    `json:"verify,omitempty"`     // the verification under way
	LastVerify  *VerifyState       `json:"lastVerify,omitempty"` // also one that failed; GetDamage has its report
	LastBackup  *BackupState       `json:"lastBackup,omitempty"`
	Family      *Family            `json:"family,omitempty"`     // what it is among the appliances with the same content
	Following   *Following         `json:"following,omitempty"`  // how far a follower is
	Sync        []MirrorState      `json:"sync,omitempty"`       // the image sets of the configuration
	LastMirror  *PastSync          `json:"lastMirror,omitempty"` // the last run that changed tags, by sync or a command
	Catalogs    []CatalogView      `json:"catalogs,omitempty"`   // the views of the configuration

	CatalogsPass *CatalogsProgress `json:"catalogsPass,omitempty"` // over the views, under way

	Updates *UpdatesState `json:"updates,omitempty"` // of the update service; nil: there is no release

	// Waiting is what a daemon that starts waits for. Then nothing is known but what this daemon is, and what fails.
	Waiting *Waiting `json:"waiting,omitempty"`

	// PendingConfig is what config.yaml has by now and is not in force: PendingNothing,
	// PendingReload, or the keys for which a restart is needed, or the error of reading it.
	PendingConfig string `json:"pendingConfig,omitempty"`
}

// Waiting is what a daemon waits for before it serves. After a minute it ends with the reason, and systemd starts it
// again.
type Waiting struct {
	For    string    `json:"for"`              // WaitingDatabase or WaitingStorage
	Name   string    `json:"name"`             // the address, without a password
	Since  time.Time `json:"since"`            // in this process
	Reason string    `json:"reason,omitempty"` // of the last attempt; "": the first has no answer yet
	Hint   string    `json:"hint,omitempty"`   // what to do
}

// Values of Waiting.For.
const (
	WaitingDatabase = "database"
	WaitingStorage  = "storage"
)

// Problem returns the reason, also before the first attempt has ended.
func (w Waiting) Problem() string { return cmp.Or(w.Reason, "there is no answer yet") }

// Values of Status.PendingConfig.
const (
	PendingNothing = ""
	PendingReload  = "upstreams" // a reload is enough
)

// Trouble is something that is wrong.
type Trouble struct {
	Problem string `json:"problem"`
	Hint    string `json:"hint,omitempty"`
}

// Space is the space of a file system.
type Space struct {
	Path  string `json:"path"`
	Total int64  `json:"total"` // bytes
	Free  int64  `json:"free"`  // bytes
	Kept  int64  `json:"kept"`  // bytes that pushes leave free

	Inodes     int64 `json:"inodes,omitempty"` // in total; 0: the file system has no limit
	FreeInodes int64 `json:"freeInodes"`
	KeptInodes int64 `json:"keptInodes,omitempty"` // that pushes leave free

	Forecast *Forecast `json:"forecast,omitempty"` // nil: it was not watched for long enough
}

// Forecast is how a file system becomes full at the pace of the days before, without what was unusual in them.
type Forecast struct {
	Days   int        `json:"days"`           // that it was watched
	PerDay int64      `json:"perDay"`         // bytes by which it becomes fuller, or less than 0
	Full   *time.Time `json:"full,omitempty"` // when pushes are refused; nil: not within two years
}

// Traffic is what clients pull and push now.
type Traffic struct {
	Pulls  Flow `json:"pulls"`
	Pushes Flow `json:"pushes"` // by clients and by runs
}

// Flow is what moves in one direction.
type Flow struct {
	Requests       int64 `json:"requests"`       // under way
	BytesPerSecond int64 `json:"bytesPerSecond"` // of the last five seconds
}

// Stats counts what exists in the store.
type Stats struct {
	Repositories int64 `json:"repositories"`
	Manifests    int64 `json:"manifests"`
	Tags         int64 `json:"tags"`
	Blobs        int64 `json:"blobs"`
	BlobBytes    int64 `json:"blobBytes"`
	Quarantined  int64 `json:"quarantined"` // blobs that are damaged and out of service
	Users        int64 `json:"users"`
}
