// Package gc collects garbage: blobs without references, abandoned uploads, and staged runs
// that were not committed.
//
// Use [MakePlan] and then [Plan.Execute]; a dry run is a plan that is not executed. Refused: mark
// and sweep with a read-only window. The store counts references in its database, so a plan is a
// query, and each removal is checked again in its transaction. A plan may be old when it is
// executed: content that has come into use since stays.
//
// The package imports no store. It declares the methods that it needs, as [Store].
package gc

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Store is the store to collect from. "before" is a time: only what has been unused since
// then is garbage. A Remove method checks that again; it skips what has come into use,
// which is not an error.
type Store interface {
	// CheckReferences fails if the index of references is damaged: a collection would
	// remove content in use.
	CheckReferences(ctx context.Context) error
	// GarbageBlobs yields blobs without a reference by a manifest, upload, run or check since
	// before, and files without a row.
	GarbageBlobs(ctx context.Context, before time.Time, yield func(d digest.Digest, size int64) error) error
	// RemoveBlobs removes those of ds that are still garbage, in one transaction.
	RemoveBlobs(ctx context.Context, before time.Time, ds []digest.Digest) (removed int, bytes int64, err error)
	// StaleUploads yields uploads without a write since before.
	StaleUploads(ctx context.Context, before time.Time, yield func(id string, size int64) error) error
	// RemoveUpload removes an upload and its bytes.
	RemoveUpload(ctx context.Context, before time.Time, id string) (bytes int64, err error)
	// StaleRuns yields staged runs that were not used since before.
	StaleRuns(ctx context.Context, before time.Time, yield func(id string) error) error
	// ClampTimes sets times in the future, from a clock that was ahead, to now.
	ClampTimes(ctx context.Context) error
	// RemoveLinks removes links of blobs to repositories without a manifest that refers to
	// them, unused since before.
	RemoveLinks(ctx context.Context, before time.Time) (removed int, err error)
	// Dropped counts the manifests removed since the last collection; take makes
	// this collection the last.
	Dropped(ctx context.Context, take bool) (manifests int, err error)
	// RemoveRun removes a staged run. Its blobs lose their protection.
	RemoveRun(ctx context.Context, before time.Time, id string) error
}

// Options are the ages of garbage. A zero time excludes a kind.
type Options struct {
	Before        time.Time // blobs without a use since
	UploadsBefore time.Time // uploads without a write since
	RunsBefore    time.Time // staged runs without a use since

	Found func(Result) // called with the sum so far; nil: no call
}

// Plan lists what can be removed. Blobs of a stale run are not in it: the next plan has
// them, when the run is gone.
type Plan struct {
	Blobs   []Blob
	Uploads []Upload
	Runs    []string
	Sum     Result // its Manifests are removed already, with deleted images

	options Options
}

// Blob is a blob without references.
type Blob struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
}

// Upload is an abandoned upload.
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

// MakePlan lists what can be removed from s and removes nothing.
func MakePlan(ctx context.Context, s Store, o Options) (*Plan, error) {
	p := &Plan{options: o}
	found := func(r Result) error {
		p.Sum.Add(r)
		if o.Found != nil {
			o.Found(p.Sum)
		}
		return ctx.Err()
	}
	if !o.RunsBefore.IsZero() {
		err := s.StaleRuns(ctx, o.RunsBefore, func(id string) error {
			p.Runs = append(p.Runs, id)
			return found(Result{Runs: 1})
		})
		if err != nil {
			return nil, fmt.Errorf("list stale runs: %w", err)
		}
	}
	if !o.UploadsBefore.IsZero() {
		err := s.StaleUploads(ctx, o.UploadsBefore, func(id string, size int64) error {
			p.Uploads = append(p.Uploads, Upload{ID: id, Size: size})
			return found(Result{Uploads: 1, Bytes: size})
		})
		if err != nil {
			return nil, fmt.Errorf("list stale uploads: %w", err)
		}
	}
	if !o.Before.IsZero() {
		err := s.GarbageBlobs(ctx, o.Before, func(d digest.Digest, size int64) error {
			p.Blobs = append(p.Blobs, Blob{Digest: d, Size: size})
			return found(Result{Blobs: 1, Bytes: size})
		})
		if err != nil {
			return nil, fmt.Errorf("list blobs that nothing refers to: %w", err)
		}
		if p.Sum.Manifests, err = s.Dropped(ctx, false); err != nil {
			return nil, err
		}
		slices.SortFunc(p.Blobs, func(a, b Blob) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	}
	return p, nil
}
