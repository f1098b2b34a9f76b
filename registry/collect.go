package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/gc"
	"github.com/mirror-appliance/appliance/registry/admin"
)

const (
	// A stopped push that goes on finds its upload for at least so long, and a sync that is
	// repeated finds what the one before it fetched, whatever grace period blobs have.
	minUploadGrace = time.Hour
	minRunGrace    = 24 * time.Hour
	// firstCollection is how long after its start a daemon first collects, if its interval is
	// longer: one that is restarted daily would otherwise never get to it.
	firstCollection = 15 * time.Minute
	// planListed is how many blobs of a dry run are listed: a script that compares wants them all, and a
	// registry that was emptied has millions.
	planListed = 10_000
)

// collector runs collections, one at a time, for the schedule and for the control API.
type collector struct {
	store gc.Store
	grace time.Duration
	log   *slog.Logger
	note  *note[admin.GCResult] // how the last one ended

	runs, failures, blobs, bytes atomic.Int64 // since the start, for metrics
	succeeded                    atomic.Int64 // when one last did, in seconds since 1970; 0: not known

	mu      sync.Mutex        // guards what follows
	running *admin.GCProgress // nil: none
}

// now is the collection under way, nil if there is none.
func (c *collector) now() *admin.GCProgress {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == nil {
		return nil
	}
	p := *c.running
	return &p
}

// begin makes a collection of the caller's, who ends it.
func (c *collector) begin(q admin.GCRequest) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running != nil {
		return admin.ErrCollecting
	}
	c.running = &admin.GCProgress{Began: time.Now(), DryRun: q.DryRun}
	return nil
}

func (c *collector) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = nil
}

// advance changes how far the collection is, and says it.
func (c *collector) advance(progress func(admin.GCProgress), change func(*admin.GCProgress)) {
	c.mu.Lock()
	change(c.running)
	now := *c.running
	c.mu.Unlock()
	progress(now)
}

// collect plans and, unless it is a dry run, executes.
func (c *collector) collect(ctx context.Context, q admin.GCRequest, progress func(admin.GCProgress)) (admin.GCResult, error) {
	if err := c.begin(q); err != nil {
		return admin.GCResult{}, err
	}
	return c.run(ctx, q, progress)
}

// run is collect, after begin.
func (c *collector) run(ctx context.Context, q admin.GCRequest, progress func(admin.GCProgress)) (admin.GCResult, error) {
	defer c.end()
	result := admin.GCResult{DryRun: q.DryRun, Began: time.Now()}
	grace := c.grace
	if q.GracePeriod != nil {
		grace = time.Duration(*q.GracePeriod)
	}
	err := c.planAndExecute(ctx, reach(result.Began, grace), &result, progress)
	result.Ended = time.Now()
	if !q.DryRun {
		c.ended(ctx, result, err)
	}
	return result, err
}

func (c *collector) planAndExecute(ctx context.Context, o gc.Options, result *admin.GCResult, progress func(admin.GCProgress)) error {
	c.advance(progress, func(*admin.GCProgress) {})
	plan, err := gc.MakePlan(ctx, finding{c.store, func(g admin.Garbage) {
		c.advance(progress, func(p *admin.GCProgress) { add(&p.Of, g) })
	}}, o)
	if err != nil {
		return fmt.Errorf("plan a collection: %w", err)
	}
	c.advance(progress, func(p *admin.GCProgress) { p.Planned = true })
	if result.DryRun {
		result.Garbage = admin.Garbage{Blobs: len(plan.Blobs), Uploads: len(plan.Uploads), Runs: len(plan.Runs), Bytes: plan.Bytes(), Manifests: plan.Manifests}
		result.Plan = []admin.PlannedBlob{}
		for _, b := range plan.Blobs[:min(len(plan.Blobs), planListed)] {
			result.Plan = append(result.Plan, admin.PlannedBlob{Digest: b.Digest, Size: b.Size})
		}
		result.More = len(plan.Blobs) - len(result.Plan)
		return nil
	}
	done, err := plan.Execute(ctx, c.store, func(done gc.Result) {
		c.advance(progress, func(p *admin.GCProgress) { p.Done = garbage(done) })
	})
	result.Garbage = garbage(done)
	if err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	return nil
}

// finding tells of garbage as it is found.
type finding struct {
	gc.Store
	found func(admin.Garbage)
}

func (f finding) GarbageBlobs(ctx context.Context, before time.Time, yield func(digest.Digest, int64) error) error {
	return f.Store.GarbageBlobs(ctx, before, func(d digest.Digest, size int64) error {
		f.found(admin.Garbage{Blobs: 1, Bytes: size})
		return yield(d, size)
	})
}

func (f finding) StaleUploads(ctx context.Context, before time.Time, yield func(string, int64) error) error {
	return f.Store.StaleUploads(ctx, before, func(id string, size int64) error {
		f.found(admin.Garbage{Uploads: 1, Bytes: size})
		return yield(id, size)
	})
}

func (f finding) StaleRuns(ctx context.Context, before time.Time, yield func(string) error) error {
	return f.Store.StaleRuns(ctx, before, func(id string) error {
		f.found(admin.Garbage{Runs: 1})
		return yield(id)
	})
}

func add(sum *admin.Garbage, g admin.Garbage) {
	sum.Blobs += g.Blobs
	sum.Uploads += g.Uploads
	sum.Runs += g.Runs
	sum.Bytes += g.Bytes
	sum.Manifests += g.Manifests
	sum.Links += g.Links
}

func garbage(r gc.Result) admin.Garbage {
	return admin.Garbage{Blobs: r.Blobs, Uploads: r.Uploads, Runs: r.Runs, Bytes: r.Bytes, Manifests: r.Manifests, Links: r.Links}
}

func reach(now time.Time, grace time.Duration) gc.Options {
	return gc.Options{
		Before:        now.Add(-grace),
		UploadsBefore: now.Add(-max(grace, minUploadGrace)),
		RunsBefore:    now.Add(-max(grace, minRunGrace)),
	}
}

// ended counts, logs and writes down how a collection ended. Its caller may have gone.
func (c *collector) ended(ctx context.Context, r admin.GCResult, err error) {
	c.runs.Add(1)
	c.blobs.Add(int64(r.Blobs))
	c.bytes.Add(r.Bytes)
	log := c.log.With("blobs", r.Blobs, "uploads", r.Uploads, "runs", r.Runs, "bytes", r.Bytes, "took", r.Ended.Sub(r.Began).Round(time.Millisecond))
	switch {
	case err == nil:
		c.succeeded.Store(r.Ended.Unix())
		log.Info("collected")
	case ctx.Err() != nil:
		r.Error = "it was stopped"
		log.Info("collection stopped half way: its caller gave up, or the registry stops")
	default:
		r.Error = err.Error()
		c.failures.Add(1)
		log.Error("collection stopped half way", "error", err)
	}
	c.note.set(context.WithoutCancel(ctx), r)
}

// schedule collects every interval until ctx ends; 0 is never.
func (c *collector) schedule(ctx context.Context, interval time.Duration) error {
	if interval == 0 {
		return nil
	}
	return every(ctx, min(interval, firstCollection), interval, func() {
		_, err := c.collect(ctx, admin.GCRequest{}, func(admin.GCProgress) {})
		if errors.Is(err, admin.ErrCollecting) {
			c.log.Info("collection skipped: one is under way")
		}
	})
}
