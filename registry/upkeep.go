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
	"github.com/mirror-appliance/appliance/registry/store/integrity"
)

const (
	// maintainEvery is how often the database is looked after.
	maintainEvery = time.Hour
	// evictEvery is how often pulled-through content is counted that nothing was added to.
	evictEvery = time.Hour
	// evictRest is how many times as long as it has taken an eviction rests: what is held is counted each time.
	evictRest = 4
	// firstScrub is how long after its start a daemon goes on with a scrub, or begins one that is due.
	firstScrub = 15 * time.Minute
	// scrubAgain is how long after one that failed the next goes on from there.
	scrubAgain = 24 * time.Hour
)

// upkeep is what a store wants now and then, besides collection.
type upkeep struct {
	store   *store.Store
	quota   int64
	scrubs  config.Scrub
	refetch func(ctx context.Context, d digest.Digest, size int64, sources []gc.Source) (io.ReadCloser, error)
	log     *slog.Logger

	latest   *note[admin.ScrubState] // how far the scrub is that is under way, or that was stopped
	complete *note[admin.ScrubState] // the last that came to its end

	// since the start, for metrics
	scrubbed, damaged, repaired, evicted atomic.Int64

	mu      sync.Mutex        // guards what follows
	running *admin.ScrubState // nil: none
	partial int64             // bytes of it that are of a blob which is not read to its end
}

// maintain looks after the database until ctx ends.
func (u *upkeep) maintain(ctx context.Context) error {
	return every(ctx, maintainEvery, maintainEvery, func() {
		if err := u.store.Maintain(ctx); err != nil && ctx.Err() == nil {
			u.log.Error("looking after the database failed", "error", err)
		}
	})
}

// limit holds pulled-through content to its quota until ctx ends: at once, and when more has come than fits.
func (u *upkeep) limit(ctx context.Context) error {
	if u.quota == 0 {
		return nil
	}
	for {
		began := time.Now()
		u.evict(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(evictRest * time.Since(began)):
		}
		select {
		case <-ctx.Done():
			return nil
		case <-u.store.QuotaPassed():
		case <-time.After(evictEvery):
		}
	}
}

func (u *upkeep) evict(ctx context.Context) {
	blobs, bytes, err := u.store.EvictPulled(ctx, u.quota)
	switch {
	case err != nil && ctx.Err() == nil:
		u.log.Error("holding pulled-through content to its quota failed", "error", err)
	case blobs > 0:
		u.evicted.Add(bytes)
		u.log.Info("pulled-through content let go of", "blobs", blobs, "bytes", bytes)
	}
}

// schedule scrubs until ctx ends, each time an interval after the last one came to its end; 0 is never. A daemon that
// is restarted often goes on where it was.
func (u *upkeep) schedule(ctx context.Context) error {
	if u.scrubs.Interval == 0 {
		return nil
	}
	timer := time.NewTimer(max(u.due(time.Now()), min(u.scrubs.Interval, firstScrub)))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		_, err := u.scrub(ctx, int64(u.scrubs.Rate), func(admin.ScrubState) {})
		if err != nil && ctx.Err() == nil && !errors.Is(err, admin.ErrScrubbing) {
			u.log.Error("scrub stopped half way; the next one goes on from there", "error", err)
		}
		wait := u.due(time.Now())
		if wait <= 0 {
			wait = min(u.scrubs.Interval, scrubAgain)
		}
		timer.Reset(wait)
	}
}

// due is how long it is until the next scrub, or how long it should have been. The last may have ended while the clock
// was ahead.
func (u *upkeep) due(now time.Time) time.Duration {
	last := u.complete.get()
	if last == nil {
		return 0
	}
	return min(last.Ended.Add(u.scrubs.Interval).Sub(now), u.scrubs.Interval)
}

// unfinished is the scrub under way, or one that was stopped half way; nil if there is neither.
func (u *upkeep) unfinished() *admin.ScrubState {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.running != nil {
		s := *u.running
		return &s
	}
	latest, complete := u.latest.get(), u.complete.get()
	if latest == nil || complete != nil && !latest.Began.After(complete.Began) {
		return nil
	}
	return latest
}

// begin makes a scrub of the caller's, who ends it. It goes on counting where one that was stopped was.
func (u *upkeep) begin(ctx context.Context) (admin.ScrubState, error) {
	cursor, err := u.store.Integrity().ScrubCursor(ctx)
	if err != nil {
		return admin.ScrubState{}, err
	}
	held, err := u.store.Stats(ctx)
	if err != nil {
		return admin.ScrubState{}, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.running != nil {
		return admin.ScrubState{}, admin.ErrScrubbing
	}
	s := admin.ScrubState{Began: time.Now()}
	if before := u.latest.get(); before != nil && cursor != "" {
		s = *before
	}
	s.Running = true
	s.Of = admin.ScrubSize{Blobs: held.Blobs, Bytes: held.BlobBytes}
	u.running = &s
	return s, nil
}

// end forgets the scrub under way, and gives how far it was.
func (u *upkeep) end() admin.ScrubState {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := *u.running
	u.running, u.partial = nil, 0
	return s
}

func (u *upkeep) advance(change func(*admin.ScrubState)) admin.ScrubState {
	u.mu.Lock()
	defer u.mu.Unlock()
	change(u.running)
	return *u.running
}

// scrub reads every blob, one scrub at a time.
func (u *upkeep) scrub(ctx context.Context, bytesPerSecond int64, progress func(admin.ScrubState)) (gc.ScrubReport, error) {
	before, err := u.begin(ctx)
	if err != nil {
		return gc.ScrubReport{}, err
	}
	progress(before)
	began := time.Now()
	step := func(r gc.ScrubReport) admin.ScrubState {
		return u.advance(func(s *admin.ScrubState) {
			u.partial = 0
			s.Blobs, s.Bytes = before.Blobs+r.Blobs, before.Bytes+r.Bytes
			// What was found before and not repaired is in quarantine, and is reported again.
			s.Damaged, s.Repaired = before.Repaired+r.Damaged, before.Repaired+r.Repaired
		})
	}
	report, err := gc.Scrub(ctx, reading{Checker: u.store.Integrity(), upkeep: u, progress: progress},
		gc.ScrubOptions{BytesPerSecond: bytesPerSecond, Refetch: u.refetch, Progress: func(r gc.ScrubReport) { progress(step(r)) }})
	u.damaged.Add(report.Damaged)
	u.repaired.Add(report.Repaired)
	step(report)
	state := u.end()
	if err != nil {
		return report, fmt.Errorf("scrub: %w", err)
	}
	state.Running, state.Ended = false, time.Now()
	u.complete.set(context.WithoutCancel(ctx), state)
	u.log.Info("scrubbed", "blobs", report.Blobs, "bytes", report.Bytes, "damaged", report.Damaged, "repaired", report.Repaired,
		"took", time.Since(began).Round(time.Millisecond))
	return report, nil
}

// reading is the checker as a scrub has it: what it reads is counted as it is read, and how far it is is noted with the
// cursor.
type reading struct {
	*integrity.Checker
	upkeep   *upkeep
	progress func(admin.ScrubState)
}

// SetScrubCursor implements gc.ScrubStore.
func (r reading) SetScrubCursor(ctx context.Context, d digest.Digest) error {
	if err := r.Checker.SetScrubCursor(ctx, d); err != nil {
		return err
	}
	var partial int64
	s := r.upkeep.advance(func(*admin.ScrubState) { partial = r.upkeep.partial })
	s.Bytes -= partial // which the next one reads again
	s.Running = false
	r.upkeep.latest.set(ctx, s)
	return nil
}

// ScrubBlob implements gc.ScrubStore.
func (r reading) ScrubBlob(ctx context.Context, d digest.Digest, pay func(context.Context, int) error) (string, error) {
	return r.Checker.ScrubBlob(ctx, d, func(ctx context.Context, n int) error {
		r.upkeep.scrubbed.Add(int64(n))
		r.progress(r.upkeep.advance(func(s *admin.ScrubState) {
			s.Bytes += int64(n)
			r.upkeep.partial += int64(n)
		}))
		return pay(ctx, n)
	})
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
	o, err := d.readSource(source)
	if err != nil {
		return nil, err
	}
	client, err := upstream.New(o)
	if err != nil {
		return nil, err
	}
	body, _, err := client.UnverifiedBlob(ctx, source.Repository, blob) // the store verifies what it puts back
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
