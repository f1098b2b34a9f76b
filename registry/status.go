package registry

import (
	"context"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
)

// status returns the state of the daemon. What cannot be read is a trouble of its own: status is asked for when something
// is wrong.
func (d *daemon) status(ctx context.Context) (api.Status, error) {
	s := api.Status{
		Version: d.version, Address: d.cfg.Address(), Started: d.started,
		Certificate: d.tls.NotAfter(), CA: timeOrNil(d.tls.CANotAfter()), Renews: d.cfg.TLS.CAKey != "", PullQuota: int64(d.cfg.PullQuota),
		Space: []api.Space{},
		GC:    d.jobs.GC.Progress(), LastGC: d.collector.last.Get(),
		Scrub: d.scrubState(), LastScrub: d.scrubber.complete.Get(),
	}
	held, err := d.counts.get(ctx, d.store.Stats) // before health, which it may be the first to find something out for
	if err == nil {
		s.Store = (*api.Stats)(&held)
	}
	found := d.health.report(ctx)
	s.Services, s.Healthy = found.services, found.healthy()
	damage := d.store.Damage()
	s.Trouble = trouble(s.Trouble, damage)
	if damage == nil { // which would be said twice
		s.Trouble = trouble(s.Trouble, err)
	}
	room, err := d.store.Space()
	s.Trouble = trouble(s.Trouble, err)
	for _, r := range room {
		s.Space = append(s.Space, api.Space(r))
	}
	for _, err := range append(found.exhausted, d.checkLogins()...) {
		s.Trouble = trouble(s.Trouble, err)
	}
	refused, soon := d.tls.Trouble()
	for _, err := range append(refused, soon...) {
		s.Trouble = trouble(s.Trouble, err)
	}
	return s, nil
}

// scrubState returns the state of the scrub under way, or of one that was stopped half way, or nil.
func (d *daemon) scrubState() *api.ScrubState {
	if running := d.jobs.Scrub.Progress(); running != nil {
		return running
	}
	return d.scrubber.unfinished()
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func trouble(all []api.Trouble, err error) []api.Trouble {
	if err == nil {
		return all
	}
	return append(all, api.Trouble{Problem: err.Error(), Hint: hint.Of(err)})
}

const (
	// countingIsLong is how long counting may take to be done for each request.
	countingIsLong = 250 * time.Millisecond
	// countedAgain is how long a count is reused, as a multiple of the time that it took.
	countedAgain = 50
)

// counts caches the counts of a store. Of a large one, counting takes at most a fiftieth of a processor, however many
// requests ask.
type counts struct {
	now func() time.Time

	mu    sync.Mutex // held while counting
	held  store.Stats
	until time.Time
}

func (c *counts) get(ctx context.Context, count func(context.Context) (store.Stats, error)) (store.Stats, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	began := c.now()
	if began.Before(c.until) {
		return c.held, nil
	}
	held, err := count(ctx)
	if err != nil {
		return store.Stats{}, err
	}
	if took := c.now().Sub(began); took > countingIsLong {
		c.held, c.until = held, began.Add(countedAgain*took)
	}
	return held, nil
}
