package api

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/mirror-appliance/appliance/gc"
	"github.com/mirror-appliance/appliance/internal/hint"
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
	// GracePeriod protects what was pushed or asked for within it; nil is the configured one. With 0 deleted images
	// are removed at once; what a push under way may need stays for some minutes.
	GracePeriod *Duration `json:"gracePeriod,omitempty"`
	// Detach makes the collection the daemon's own: the answer comes when it has begun, and it goes on without the
	// caller. Its progress and its result are in the status.
	Detach bool `json:"detach,omitempty"`
}

// Check returns an error unless the request can be granted.
func (q GCRequest) Check() error {
	switch {
	case q.GracePeriod != nil && *q.GracePeriod < 0:
		return hint.New(errors.New("gracePeriod is negative"), "use a duration such as 1h")
	case q.Detach && q.DryRun:
		return hint.New(errors.New("a dry run that is detached has no answer to list anything in"), "leave out detach")
	}
	return nil
}

// Detached reports whether the daemon is to go on without the caller.
func (q GCRequest) Detached() bool { return q.Detach }

// GCProgress is the progress of a collection.
type GCProgress struct {
	Began   time.Time `json:"began"`
	DryRun  bool      `json:"dryRun,omitempty"`
	Planned bool      `json:"planned"` // Of is complete
	Of      gc.Result `json:"of"`      // to remove, as far as it is known
	Done    gc.Result `json:"done"`    // removed
}

// GCResult is what a collection removed, or in a dry run would remove.
type GCResult struct {
	DryRun bool `json:"dryRun,omitempty"`
	gc.Result
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`
	Error string    `json:"error,omitempty"` // why it stopped half way; only in a status

	// Plan is what a dry run would remove, the first 10,000 of it.
	Plan []gc.Blob `json:"plan,omitzero"`
	More int       `json:"more,omitempty"` // blobs that are not listed
}

// VerifyRequest asks for a verification of the store.
type VerifyRequest struct {
	Content        bool  `json:"content,omitempty"`        // read and hash every blob
	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"` // read no faster; 0: no limit
}

// Check returns an error unless the request can be granted.
func (q VerifyRequest) Check() error { return checkRate(q.BytesPerSecond) }

// VerifyProgress is the progress of a verification.
type VerifyProgress struct {
	Done VerifyReport `json:"done"`
	Of   VerifySize   `json:"of"`
}

// VerifySize is how much there is to verify.
type VerifySize struct {
	Manifests int64 `json:"manifests"`
	Blobs     int64 `json:"blobs"`
	BlobBytes int64 `json:"blobBytes"`
}

// VerifyReport is what a verification found.
type VerifyReport struct {
	Manifests        int64     `json:"manifests"`        // whose bytes, columns and references were verified
	References       int64     `json:"references"`       // of these manifests
	Tags             int64     `json:"tags"`             // verified
	Blobs            int64     `json:"blobs"`            // whose file was verified
	BlobBytes        int64     `json:"blobBytes"`        // that these files should have
	ContentBytes     int64     `json:"contentBytes"`     // read and hashed, if that was asked for
	Unfetched        int64     `json:"unfetched"`        // blobs of pulled-through manifests that were never requested
	Quarantined      int64     `json:"quarantined"`      // blobs out of service, see scrub
	ExtraFiles       int64     `json:"extraFiles"`       // files without a row; collection removes them
	ExtraBytes       int64     `json:"extraBytes"`       // of these files
	StaleUploads     int64     `json:"staleUploads"`     // not written to for a day; collection removes them
	StaleUploadBytes int64     `json:"staleUploadBytes"` // of these uploads
	Problems         []Problem `json:"problems"`         // the first thousand
	MoreProblems     int64     `json:"moreProblems"`     // that are not listed
}

// Clean reports whether nothing is damaged. Extra files, stale uploads and what was not fetched yet are not damage.
func (r VerifyReport) Clean() bool { return len(r.Problems) == 0 }

// Problem is one finding of a verification.
type Problem struct {
	Kind   string `json:"kind"`   // database, manifest, tag or blob
	Name   string `json:"name"`   // a digest, repository:tag, or a table
	What   string `json:"what"`   // is wrong with it
	Remedy string `json:"remedy"` // what to do
}

func (p Problem) String() string { return p.Kind + " " + p.Name + ": " + p.What }

// ScrubRequest asks for a scrub.
type ScrubRequest struct {
	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"` // read no faster; 0: no limit
}

// Check returns an error unless the request can be granted.
func (q ScrubRequest) Check() error { return checkRate(q.BytesPerSecond) }

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
