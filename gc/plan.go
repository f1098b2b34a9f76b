package gc

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

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
