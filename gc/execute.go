package gc

import (
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
)

// batch is the number of blobs between two calls of progress. The store decides how many
// go in one transaction.
const batch = 500

// Execute removes what the plan lists. It calls progress, unless that is nil, after each
// transaction with the sum so far. If it fails or ctx ends, the result is what was removed until
// then; a new plan continues from there.
func (p *Plan) Execute(ctx context.Context, s Store, progress func(Result)) (Result, error) {
	e := &execution{plan: p, store: s, progress: progress}
	for _, step := range []func(context.Context) error{e.check, e.runs, e.uploads, e.blobs, e.links} {
		if err := step(ctx); err != nil {
			return e.result, err
		}
	}
	return e.result, nil
}

type execution struct {
	plan     *Plan
	store    Store
	progress func(Result)
	result   Result
}

// check is first because the other steps rely on references. Runs and uploads do not.
func (e *execution) check(ctx context.Context) error {
	if e.plan.options.Before.IsZero() {
		return nil
	}
	return e.store.CheckReferences(ctx)
}

func (e *execution) runs(ctx context.Context) error {
	for _, id := range e.plan.Runs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := e.store.RemoveRun(ctx, e.plan.options.RunsBefore, id); err != nil {
			return fmt.Errorf("remove staged run %s: %w", id, err)
		}
		e.add(Result{Runs: 1})
	}
	return nil
}

func (e *execution) uploads(ctx context.Context) error {
	for _, u := range e.plan.Uploads {
		if err := ctx.Err(); err != nil {
			return err
		}
		bytes, err := e.store.RemoveUpload(ctx, e.plan.options.UploadsBefore, u.ID)
		if err != nil {
			return fmt.Errorf("remove upload %s: %w", u.ID, err)
		}
		e.add(Result{Uploads: 1, Bytes: bytes})
	}
	return nil
}

// links removes links to blobs that no manifest of the repository refers to. The plan does not list
// them, since they free no space.
func (e *execution) links(ctx context.Context) error {
	if e.plan.options.Before.IsZero() {
		return nil
	}
	manifests, err := e.store.Dropped(ctx, true)
	if err != nil {
		return err
	}
	if err := e.store.ClampTimes(ctx); err != nil {
		return err
	}
	n, err := e.store.RemoveLinks(ctx, e.plan.options.Before)
	if manifests > 0 || n > 0 {
		e.add(Result{Manifests: manifests, Links: n})
	}
	return err
}

func (e *execution) blobs(ctx context.Context) error {
	for some := range slices.Chunk(e.plan.Blobs, batch) {
		if err := ctx.Err(); err != nil {
			return err
		}
		ds := make([]digest.Digest, len(some))
		for i, b := range some {
			ds[i] = b.Digest
		}
		removed, bytes, err := e.store.RemoveBlobs(ctx, e.plan.options.Before, ds)
		e.add(Result{Blobs: removed, Bytes: bytes})
		if err != nil {
			return fmt.Errorf("remove blobs: %w", err)
		}
	}
	return nil
}

func (e *execution) add(r Result) {
	e.result.Add(r)
	if e.progress != nil {
		e.progress(e.result)
	}
}
