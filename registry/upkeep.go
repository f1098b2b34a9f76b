package registry

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/mirror-appliance/appliance/registry/store"
)

const (
	maintainEvery = time.Hour
	// evictEvery is the interval of evictions while no content is added.
	evictEvery = time.Hour
	// evictPause is the pause after an eviction, as a multiple of its duration: it
	// counts all blobs.
	evictPause = 4
)

// maintain maintains the database until ctx ends.
func (d *daemon) maintain(ctx context.Context) error {
	return every(ctx, maintainEvery, maintainEvery, func() {
		if err := d.store.Maintain(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("maintaining the database failed", "error", err)
		}
	})
}

// evictor holds pulled-through content to its quota.
type evictor struct {
	store   *store.Store
	quota   int64
	log     *slog.Logger
	evicted atomic.Int64 // bytes since the start
}

// run evicts until ctx ends: at once, and when the quota is passed.
func (e *evictor) run(ctx context.Context) error {
	if e.quota == 0 {
		return nil
	}
	for {
		began := time.Now()
		e.evict(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(evictPause * time.Since(began)):
		}
		select {
		case <-ctx.Done():
			return nil
		case <-e.store.Garbage.QuotaPassed():
		case <-time.After(evictEvery):
		}
	}
}

func (e *evictor) evict(ctx context.Context) {
	blobs, bytes, err := e.store.Garbage.EvictPulled(ctx, e.quota)
	switch {
	case err != nil && ctx.Err() == nil:
		e.log.Error("evicting pulled-through content failed", "error", err)
	case blobs > 0:
		e.evicted.Add(bytes)
		e.log.Info("pulled-through content evicted", "blobs", blobs, "bytes", bytes)
	}
}

// every calls f after first and then at every interval, until ctx ends.
func every(ctx context.Context, first, interval time.Duration, f func()) error {
	timer := time.NewTimer(first)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		timer.Reset(interval)
		f()
	}
}
