package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
)

const (
	// usagePatience is how long a request waits for a count under way: that of a small store has ended by then.
	usagePatience = 400 * time.Millisecond
	// usageAge is when what was counted is counted again though the store has not changed: grace periods end.
	usageAge = time.Hour
	// usageListed is how many repositories an answer has if the request names no number.
	usageListed = 50
)

// usage counts what uses the space: in the background, when it is asked for after the store has changed.
type usage struct {
	store *store.Store
	grace time.Duration
	now   func() time.Time
	drain context.Context
	log   *slog.Logger

	running sync.WaitGroup

	mu       sync.Mutex // guards what follows
	changes  <-chan struct{}
	changed  bool // since the last count began
	last     *counted
	failed   error // of the last count
	until    time.Time
	counting *api.UsageProgress // under way
	ended    chan struct{}      // closed when it ends
}

// counted is the result of a count.
type counted struct {
	at                  time.Time
	sums                store.Usage // without repositories
	reclaimable, unused store.BlobSum
	byOwn, byAll        []store.RepositoryUsage // the largest first
}

func newUsage(d *daemon) *usage {
	return &usage{store: d.store, grace: d.cfg.GC.GracePeriod, now: time.Now, drain: d.draining, log: d.log, changes: d.store.Changed()}
}

// get answers with what was counted last, and has it counted again if that is due.
func (u *usage) get(ctx context.Context, q api.UsageRequest) api.Usage {
	if ended := u.refresh(); ended != nil {
		timer := time.NewTimer(usagePatience)
		defer timer.Stop()
		select {
		case <-ended:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.look()
	a := api.Usage{GracePeriod: api.Duration(u.grace), Repositories: []api.RepositoryUsage{}}
	if u.counting != nil {
		under := *u.counting
		a.Counting = &under
	}
	if u.failed != nil {
		a.Error = &api.Trouble{Problem: u.failed.Error(), Hint: hint.Of(u.failed)}
	}
	database, wal := u.store.DatabaseBytes()
	a.Database = database + wal
	if u.last != nil {
		a.Changed = u.changed
		u.last.answer(&a, q)
	}
	return a
}

// look takes note of changes of the store.
func (u *usage) look() {
	select {
	case <-u.changes:
		u.changed = true
	default:
	}
}

// refresh begins a count if it is due, and returns what is closed at the end of the one under way, or nil. Counting
// takes at most a fiftieth of a processor.
func (u *usage) refresh() (ended <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.look()
	now := u.now()
	switch {
	case u.counting != nil:
		return u.ended
	case u.drain.Err() != nil || now.Before(u.until):
		return nil
	case u.last != nil && !u.changed && now.Sub(u.last.at) < usageAge:
		return nil
	}
	u.changed = false
	u.counting, u.ended = &api.UsageProgress{Began: now}, make(chan struct{})
	u.running.Go(u.count)
	return u.ended
}

// count counts, until the registry stops.
func (u *usage) count() {
	began := u.now()
	result, err := u.read(began)
	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil && u.drain.Err() == nil {
		u.log.Error("what uses the space could not be counted", "error", err)
	}
	took := u.now().Sub(began)
	if took > slowCount || err != nil {
		u.until = began.Add(max(countReuse*took, time.Minute))
	}
	if u.failed = err; err == nil {
		u.last = result
	}
	u.counting = nil
	close(u.ended)
}

func (u *usage) read(at time.Time) (*counted, error) {
	sums, err := u.store.Usage(u.drain, func(blobs int64) {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.counting.Blobs = blobs
	})
	if err != nil {
		return nil, err
	}
	c := &counted{at: at, byOwn: sums.Repositories}
	sums.Repositories = nil
	c.sums = sums
	for _, of := range []struct {
		into  *store.BlobSum
		grace time.Duration
	}{{&c.reclaimable, u.grace}, {&c.unused, 0}} {
		o := cutoff(at, of.grace)
		if *of.into, err = u.store.Garbage.Reclaimable(u.drain, o.Before, o.UploadsBefore); err != nil {
			return nil, fmt.Errorf("count what a collection would remove: %w", err)
		}
	}
	c.byAll = slices.Clone(c.byOwn)
	all := func(r store.RepositoryUsage) int64 { return r.Own.Bytes + r.Shared.Bytes }
	slices.SortFunc(c.byOwn, func(a, b store.RepositoryUsage) int {
		return cmp.Or(cmp.Compare(b.Own.Bytes, a.Own.Bytes), cmp.Compare(all(b), all(a)), strings.Compare(a.Name, b.Name))
	})
	slices.SortFunc(c.byAll, func(a, b store.RepositoryUsage) int {
		return cmp.Or(cmp.Compare(all(b), all(a)), strings.Compare(a.Name, b.Name))
	})
	return c, nil
}

// answer fills an answer.
func (c *counted) answer(a *api.Usage, q api.UsageRequest) {
	a.Counted = c.at
	a.Blobs, a.Own, a.Shared, a.Unlinked = api.BlobSum(c.sums.All), api.BlobSum(c.sums.Own), api.BlobSum(c.sums.Shared), api.BlobSum(c.sums.Unlinked)
	a.Reclaimable, a.Unused = api.BlobSum(c.reclaimable), api.BlobSum(c.unused)
	from := c.byOwn
	if q.All {
		from = c.byAll
	}
	end, text := q.After+cmp.Or(q.Limit, usageListed), strings.ToLower(q.Text)
	for _, r := range from {
		if !strings.Contains(r.Name, text) {
			continue
		}
		if a.Of >= q.After && a.Of < end {
			a.Repositories = append(a.Repositories, api.RepositoryUsage{Name: r.Name, Own: api.BlobSum(r.Own), Shared: api.BlobSum(r.Shared)})
		}
		a.Of++
	}
	if a.Of > end {
		a.Next = end
	}
}

// wait waits for the count under way, which ends with the registry.
func (u *usage) wait() error {
	u.running.Wait()
	return nil
}

// upkeep is what the control API asks about the space and the jobs.
type upkeep struct{ *daemon }

func (d upkeep) GCPlan(ctx context.Context) api.GCPlan {
	running, last := d.collector.planned.look(ctx)
	return api.GCPlan{Last: last, Running: running}
}

func (d upkeep) Usage(ctx context.Context, q api.UsageRequest) (api.Usage, error) {
	return d.usage.get(ctx, q), ctx.Err()
}

// damageListed is how many blobs and problems are listed.
const damageListed = 100

func (d upkeep) Damage(ctx context.Context) (api.Damage, error) {
	a := api.Damage{Blobs: []api.DamagedBlob{}, Verified: d.verified.Get()}
	check := d.store.Integrity()
	all, err := check.Quarantined(ctx)
	if err != nil {
		return a, err
	}
	a.More = max(0, len(all)-damageListed)
	for _, b := range all[:len(all)-a.More] {
		images, err := check.BlobImages(ctx, b.Digest)
		sources, sourcesErr := check.BlobSources(ctx, b.Digest)
		if err := errors.Join(err, sourcesErr); err != nil {
			return a, err
		}
		one := api.DamagedBlob{Digest: b.Digest, Size: b.Size, Cause: b.Cause, Images: images, Sources: []string{}}
		for _, s := range sources {
			one.Sources = append(one.Sources, s.Registry+"/"+s.Repository)
		}
		a.Blobs = append(a.Blobs, one)
	}
	return a, nil
}
