package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

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
)

// collector runs collections, one at a time, for the schedule and for the control API.
type collector struct {
	store gc.Store
	grace time.Duration
	log   *slog.Logger

	busy sync.Mutex // held while a collection runs; only ever tried
	last atomic.Pointer[admin.GCResult]
	runs, failures,
	blobs, bytes atomic.Int64 // since the start, for metrics
}

func newCollector(s gc.Store, grace time.Duration, log *slog.Logger) *collector {
	return &collector{store: s, grace: grace, log: log}
}

// collect plans and, unless it is a dry run, executes.
func (c *collector) collect(ctx context.Context, q admin.GCRequest) (admin.GCResult, error) {
	if !c.busy.TryLock() {
		return admin.GCResult{}, admin.ErrCollecting
	}
	defer c.busy.Unlock()
	grace := c.grace
	if q.GracePeriod != nil {
		grace = time.Duration(*q.GracePeriod)
	}
	plan, err := gc.MakePlan(ctx, c.store, reach(time.Now(), grace))
	if err != nil {
		return admin.GCResult{}, fmt.Errorf("plan a collection: %w", err)
	}
	if q.DryRun {
		return admin.GCResult{DryRun: true, Blobs: len(plan.Blobs), Uploads: len(plan.Uploads), Runs: len(plan.Runs), Bytes: plan.Bytes(), Ended: time.Now()}, nil
	}
	return c.execute(ctx, plan)
}

func reach(now time.Time, grace time.Duration) gc.Options {
	return gc.Options{
		Before:        now.Add(-grace),
		UploadsBefore: now.Add(-max(grace, minUploadGrace)),
		RunsBefore:    now.Add(-max(grace, minRunGrace)),
	}
}

func (c *collector) execute(ctx context.Context, plan *gc.Plan) (admin.GCResult, error) {
	began := time.Now()
	done, err := plan.Execute(ctx, c.store, nil)
	result := admin.GCResult{Blobs: done.Blobs, Uploads: done.Uploads, Runs: done.Runs, Bytes: done.Bytes, Ended: time.Now()}
	c.runs.Add(1)
	c.blobs.Add(int64(done.Blobs))
	c.bytes.Add(done.Bytes)
	log := c.log.With("blobs", done.Blobs, "uploads", done.Uploads, "runs", done.Runs, "bytes", done.Bytes, "took", time.Since(began).Round(time.Millisecond))
	if err != nil {
		c.failures.Add(1)
		log.Error("collection stopped half way", "error", err)
		return result, fmt.Errorf("collect: %w", err)
	}
	c.last.Store(&result)
	log.Info("collected")
	return result, nil
}

// schedule collects every interval until ctx ends; 0 is never.
func (c *collector) schedule(ctx context.Context, interval time.Duration) error {
	if interval == 0 {
		return nil
	}
	timer := time.NewTimer(min(interval, firstCollection))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		timer.Reset(interval)
		if _, err := c.collect(ctx, admin.GCRequest{}); errors.Is(err, admin.ErrCollecting) {
			c.log.Info("collection skipped: one is under way")
		} else if err != nil && ctx.Err() == nil {
			c.log.Error("collection failed", "error", err)
		}
	}
}
