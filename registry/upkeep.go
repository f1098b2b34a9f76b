package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/gc"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/admin"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store"
)

const (
	// maintainEvery is how often the database is looked after, and pulled-through content is held to its quota.
	maintainEvery = time.Hour
	// firstScrub is how long after its start a daemon first scrubs, if its interval is longer: one that is restarted
	// weekly would otherwise never get to it. It goes on where the last one stopped.
	firstScrub = 24 * time.Hour
)

// upkeep is what a store wants now and then, besides collection.
type upkeep struct {
	store   *store.Store
	quota   int64
	scrubs  config.Scrub
	refetch func(ctx context.Context, d digest.Digest, size int64, sources []gc.Source) (io.ReadCloser, error)
	log     *slog.Logger

	busy sync.Mutex // held while a scrub runs; only ever tried
	// since the start, for metrics
	scrubbed, damaged, repaired, evicted atomic.Int64
}

// maintain looks after the database until ctx ends.
func (u *upkeep) maintain(ctx context.Context) error {
	return every(ctx, maintainEvery, maintainEvery, func() {
		if err := u.store.Maintain(ctx); err != nil && ctx.Err() == nil {
			u.log.Error("looking after the database failed", "error", err)
		}
		u.evict(ctx)
	})
}

func (u *upkeep) evict(ctx context.Context) {
	if u.quota == 0 {
		return
	}
	blobs, bytes, err := u.store.EvictPulled(ctx, u.quota)
	switch {
	case err != nil && ctx.Err() == nil:
		u.log.Error("holding pulled-through content to its quota failed", "error", err)
	case blobs > 0:
		u.evicted.Add(bytes)
		u.log.Info("pulled-through content let go of", "blobs", blobs, "bytes", bytes)
	}
}

// schedule scrubs every interval until ctx ends; 0 is never.
func (u *upkeep) schedule(ctx context.Context) error {
	if u.scrubs.Interval == 0 {
		return nil
	}
	return every(ctx, min(u.scrubs.Interval, firstScrub), u.scrubs.Interval, func() {
		_, err := u.scrub(ctx, int64(u.scrubs.Rate), nil)
		if err != nil && ctx.Err() == nil && !errors.Is(err, admin.ErrScrubbing) {
			u.log.Error("scrub stopped half way; the next one goes on from there", "error", err)
		}
	})
}

// scrub reads every blob, one scrub at a time.
func (u *upkeep) scrub(ctx context.Context, bytesPerSecond int64, progress func(gc.ScrubReport)) (gc.ScrubReport, error) {
	if !u.busy.TryLock() {
		return gc.ScrubReport{}, admin.ErrScrubbing
	}
	defer u.busy.Unlock()
	began := time.Now()
	report, err := gc.Scrub(ctx, u.store, gc.ScrubOptions{BytesPerSecond: bytesPerSecond, Refetch: u.refetch, Progress: progress})
	u.scrubbed.Add(report.Bytes)
	u.damaged.Add(report.Damaged)
	u.repaired.Add(report.Repaired)
	log := u.log.With("blobs", report.Blobs, "bytes", report.Bytes, "damaged", report.Damaged, "repaired", report.Repaired,
		"took", time.Since(began).Round(time.Millisecond))
	if err != nil {
		return report, fmt.Errorf("scrub: %w", err)
	}
	log.Info("scrubbed")
	return report, nil
}

// scrubReport is a report as the control API has it.
func scrubReport(r gc.ScrubReport) admin.ScrubReport {
	out := admin.ScrubReport{
		Blobs: r.Blobs, Bytes: r.Bytes, Resumed: r.Resumed, Complete: r.Complete,
		Damaged: r.Damaged, Repaired: r.Repaired, Damage: []admin.Damage{},
	}
	for _, d := range r.Damage {
		out.Damage = append(out.Damage, admin.Damage{
			Digest: d.Digest, Size: d.Size, Cause: d.Cause, Known: d.Known, Images: d.Images, Repaired: d.Repaired, RepairError: d.RepairError,
		})
	}
	return out
}

// every calls f first after first and then every interval, until ctx ends.
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

// refetch gets a blob where it came from: over the upstreams that are configured, with their logins, and from any other
// registry without one.
func (d *daemon) refetch(ctx context.Context, blob digest.Digest, _ int64, sources []gc.Source) (io.ReadCloser, error) {
	errs := []error{errors.New("it is not known where it came from")}
	for i, source := range sources {
		if i == 0 {
			errs = nil
		}
		body, err := d.fetchFrom(ctx, source, blob)
		if err == nil {
			return body, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (d *daemon) fetchFrom(ctx context.Context, source gc.Source, blob digest.Digest) (io.ReadCloser, error) {
	if client, ok := d.clients[source.Registry]; ok {
		body, _, err := client.Blob(ctx, source.Repository, blob)
		return body, err
	}
	client, err := upstream.New(upstream.Options{Registry: source.Registry, Log: d.log, UserAgent: "appliance/" + d.version})
	if err != nil {
		return nil, err
	}
	body, _, err := client.Blob(ctx, source.Repository, blob)
	if err != nil {
		client.Close()
		return nil, err
	}
	return closing{body, client}, nil
}

// closing closes the client that a body was read with.
type closing struct {
	io.ReadCloser
	client *upstream.Client
}

func (c closing) Close() error {
	defer c.client.Close()
	return c.ReadCloser.Close()
}
