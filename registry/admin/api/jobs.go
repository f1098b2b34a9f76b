package api

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/mirror-appliance/appliance/gc"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/integrity/findings"
)

// Line is a line of a job's answer. It has one of Progress, Result and Refusal.
type Line struct {
	Progress json.RawMessage `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	*Refusal
	Status int `json:"status,omitempty"` // with an error
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
	DryRun bool `json:"dryRun,omitempty"` // only list what would be removed
	// GracePeriod protects what was pushed or asked for within it; nil is the configured one. With
	// 0 deleted images are removed at once; what a push under way may need stays for some minutes.
	GracePeriod *Duration `json:"gracePeriod,omitempty"`
	// Detach makes the collection the daemon's own: the answer comes when it has begun, and it goes
	// on without the caller. Its progress and its result are in the status, and those of a dry run in GCPlan.
	Detach bool `json:"detach,omitempty"`
}

// Check returns an error unless the request can be granted.
func (q GCRequest) Check() error {
	if q.GracePeriod != nil && *q.GracePeriod < 0 {
		return hint.New(errors.New("gracePeriod is negative"), "use a duration such as 1h")
	}
	return nil
}

// Detached reports whether the daemon is to go on without the caller.
func (q GCRequest) Detached() bool { return q.Detach }

// GCProgress is the progress of a collection.
type GCProgress struct {
	Began   time.Time `json:"began"`
	DryRun  bool      `json:"dryRun,omitempty"`
	Planned bool      `json:"planned"`        // Of is complete
	Of      gc.Result `json:"of"`             // to remove, as far as it is known
	Done    gc.Result `json:"done"`           // removed
	Host    string    `json:"host,omitempty"` // of the daemon that does it, of several; "": the one that answers
}

// GCResult is what a collection removed, or in a dry run would remove.
type GCResult struct {
	DryRun bool `json:"dryRun,omitempty"`
	gc.Result
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`
	Error string    `json:"error,omitempty"` // why it stopped half way; only in a status and in a GCPlan

	// Plan is what a dry run would remove, the first 10,000 of it.
	Plan []gc.Blob `json:"plan,omitzero"`
	More int       `json:"more,omitempty"` // blobs that are not listed
}

// GCPlan is the last dry run that was detached, since the daemon's start or, of several daemons, in the last week, and
// the collection under way.
type GCPlan struct {
	Last    *GCResult   `json:"last,omitempty"`
	Running *GCProgress `json:"running,omitempty"`
}

// VerifyRequest asks for a verification of the store.
type VerifyRequest struct {
	Content        bool  `json:"content,omitempty"`        // read and hash every blob
	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"` // read no faster; 0: no limit
	// Detach makes the verification the daemon's own, as in GCRequest. Its progress is in the status, and its result
	// in Damage.
	Detach bool `json:"detach,omitempty"`
}

// Check returns an error unless the request can be granted.
func (q VerifyRequest) Check() error { return checkRate(q.BytesPerSecond) }

// Detached reports whether the daemon is to go on without the caller.
func (q VerifyRequest) Detached() bool { return q.Detach }

// VerifyProgress is the progress of a verification.
type VerifyProgress struct {
	Began time.Time `json:"began"`

	Done findings.Report `json:"done"`
	Of   findings.Size   `json:"of"`
	Host string          `json:"host,omitempty"` // of the daemon that does it, of several; "": the one that answers
}

// ScrubRequest asks for a scrub.
type ScrubRequest struct {
	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"` // read no faster; 0: no limit
	// Detach makes the scrub the daemon's own, as in GCRequest. Its progress is in the status, and what stays damaged in
	// Damage.
	Detach bool `json:"detach,omitempty"`
}

// Check returns an error unless the request can be granted.
func (q ScrubRequest) Check() error { return checkRate(q.BytesPerSecond) }

// Detached reports whether the daemon is to go on without the caller.
func (q ScrubRequest) Detached() bool { return q.Detach }

func checkRate(bytesPerSecond int64) error {
	if bytesPerSecond < 0 {
		return hint.New(errors.New("bytesPerSecond is negative"), "leave it out to read as fast as possible")
	}
	return nil
}

// ScrubState is the progress of a scrub. One that was stopped half way and resumed counts as one.
type ScrubState struct {
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended,omitzero"` // when it completed
	Running  bool      `json:"running"`
	Blobs    int64     `json:"blobs"` // read
	Bytes    int64     `json:"bytes"` // read
	Of       ScrubSize `json:"of"`    // what there was when it began
	Damaged  int64     `json:"damaged"`
	Repaired int64     `json:"repaired"` // of these
	// Host is that of the daemon, of several, that does it or has ended without ending it; "": the one that answers.
	Host string `json:"host,omitempty"`
}

// ScrubSize is how much a scrub has to read.
type ScrubSize struct {
	Blobs int64 `json:"blobs"`
	Bytes int64 `json:"bytes"`
}

// Snapshot names the file of a backup, which is beside the database.
type Snapshot struct {
	Snapshot string `json:"snapshot"`
}
