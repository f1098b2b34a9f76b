// Package gc takes out the garbage: blobs that nothing refers to any more, uploads that nobody
// finished, and staged runs that nobody committed.
//
// Use [MakePlan] and then [Plan.Execute]; a dry run is the plan, unexecuted. There is no mark and
// sweep and no read-only window: the store counts references in its database, so a plan is a
// query, and what is removed is checked again in the transaction that removes it. A plan may
// therefore be old when it is executed; what came into use since then stays.
//
// [Scrub] looks after what is not garbage: it reads every blob, takes out of service what is
// damaged, and fetches it again.
//
// The package knows no store. It declares the methods that it needs, as [Store].
package gc

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
)

// Store is what is collected from. "Before" is always the moment since when a thing must have
// been left alone to be garbage. A Remove method checks that again and leaves alone what does not
// qualify any more, which is not an error.
type Store interface {
	// CheckReferences fails when what tells the store what is referred to is damaged: a collection would take what is in
	// use.
	CheckReferences(ctx context.Context) error
	// GarbageBlobs yields blobs that no manifest, upload, run or check since before relies on,
	// and files that no row names.
	GarbageBlobs(ctx context.Context, before time.Time, yield func(d digest.Digest, size int64) error) error
	// RemoveBlobs removes those of ds that still are garbage, in one transaction.
	RemoveBlobs(ctx context.Context, before time.Time, ds []digest.Digest) (removed int, bytes int64, err error)
	// StaleUploads yields uploads that were not written to since before.
	StaleUploads(ctx context.Context, before time.Time, yield func(id string, size int64) error) error
	// RemoveUpload removes an upload and its bytes.
	RemoveUpload(ctx context.Context, before time.Time, id string) (bytes int64, err error)
	// StaleRuns yields staged runs that were not used since before.
	StaleRuns(ctx context.Context, before time.Time, yield func(id string) error) error
	// SettleTimes makes what is from the future, since the clock was ahead, as old as now.
	SettleTimes(ctx context.Context) error
	// RemoveLinks removes the links of blobs to repositories that no manifest there needs, and that nothing relied on
	// since before.
	RemoveLinks(ctx context.Context, before time.Time) (removed int, err error)
	// Dropped counts the manifests that went since the last collection; take makes this the last.
	Dropped(ctx context.Context, take bool) (manifests int, err error)
	// RemoveRun removes a staged run, with which its blobs lose their protection.
	RemoveRun(ctx context.Context, before time.Time, id string) error
}

// Options say what is old enough. A zero time excludes that kind of garbage.
type Options struct {
	Before        time.Time // blobs not relied on since
	UploadsBefore time.Time // uploads not written to since
	RunsBefore    time.Time // staged runs not used since

	Found func(Result) // called with the sum of what is found so far; nil: no call
}

// Plan is what can be removed. Blobs that only a stale run holds are not in it: they are
// garbage once the run is gone, and the next plan names them.
type Plan struct {
	Blobs   []Blob
	Uploads []Upload
	Runs    []string
	Sum     Result // Manifests are gone already, with the images that were deleted

	options Options
}

// Blob is a blob that nothing refers to.
type Blob struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
}

// Upload is an upload that nobody finished.
type Upload struct {
	ID   string
	Size int64
}

// Result counts what was removed.
type Result struct {
	Blobs     int   `json:"blobs"`
	Uploads   int   `json:"uploads"` // that were never committed
	Runs      int   `json:"runs"`    // that were never committed
	Bytes     int64 `json:"bytes"`
	Manifests int   `json:"manifests"` // removed since the last collection; those of a deleted image are removed at once
	Links     int   `json:"links"`     // of blobs to repositories that do not use them
}

// Add adds other to r.
func (r *Result) Add(other Result) {
	r.Blobs += other.Blobs
	r.Uploads += other.Uploads
	r.Runs += other.Runs
	r.Bytes += other.Bytes
	r.Manifests += other.Manifests
	r.Links += other.Links
}
