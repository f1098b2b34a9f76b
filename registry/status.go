package registry

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/jobs"
	"github.com/mirror-appliance/appliance/registry/store"
)

// status returns the state of the daemon. A value that cannot be read is a trouble of its own.
func (d *daemon) status(ctx context.Context) (api.Status, error) {
	s := api.Status{
		Version: d.version, Address: d.cfg.Address(), Started: d.started, Socket: d.cfg.ControlSocket,
		Certificate: d.tls.NotAfter(), CA: timeOrNil(d.tls.CANotAfter()),
		Renews: d.cfg.TLS.CAKey != "", PullQuota: int64(d.cfg.PullQuota),
		GC: d.jobs.GC.Progress(), LastGC: d.collector.last.Get(), NextGC: timeOrNil(d.jobs.GC.Next()), NextScrub: timeOrNil(d.jobs.Scrub.Next()),
		Scrub: d.scrubState(), LastScrub: d.scrubber.complete.Get(), Verify: d.jobs.Verify.Progress(),
	}
	if verified := d.verified.Get(); verified != nil {
		s.LastVerify = &verified.VerifyState
	}
	family := d.family.Describe()
	s.Family, s.Following = &family, d.family.state()
	s.LastBackup = jobs.OpenNote[api.BackupState](ctx, d.store, admin.LastBackup, d.log).Get()
	s.Offline, s.PendingConfig = d.link.Offline(), d.pendingConfig()
	counted, err := d.counts.get(ctx, d.store.Stats) // before health: it may find damage
	if err == nil {
		s.Store = (*api.Stats)(&counted)
	}
	if past, err := d.store.Runs.Past(ctx, 1, api.ViewRuns, ""); err == nil && len(past) > 0 {
		last := admin.PastSync(past[0])
		s.LastMirror = &last
	}
	var unread []error
	for _, m := range d.mirrors {
		s.Sync = append(s.Sync, m.state())
		unread = append(unread, m.check())
	}
	s.Catalogs, s.CatalogsPass = d.views.State(), d.jobs.Catalogs.Progress()
	s.Updates = d.updates.State()
	for _, v := range s.Catalogs {
		if v.Error != "" {
			s.Trouble = append(s.Trouble, api.Trouble{Problem: "view " + v.Name + ": " + v.Error, Hint: v.Hint})
		}
	}
	found := d.health.report(ctx)
	s.Services, s.Healthy = found.services, found.healthy()
	if damage := d.store.Damage(); damage != nil {
		err = damage // the reason of the other
	}
	room, spaceErr := d.store.Space()
	s.Space, s.Traffic = d.spaces(room), d.traffic.state()
	refused, notices := d.tls.Trouble()
	for _, err := range slices.Concat([]error{err, spaceErr, d.checkClock(ctx)}, found.exhausted, d.upstreams.troubles(), unread, refused, notices) {
		if err != nil {
			s.Trouble = append(s.Trouble, api.Trouble{Problem: err.Error(), Hint: hint.Of(err)})
		}
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

const (
	// slowCount is the duration from which a count is reused.
	slowCount = 250 * time.Millisecond
	// countReuse is how long a count is reused, as a multiple of its duration.
	countReuse = 50
)

// counts caches the counts of a store: counting takes at most a fiftieth of a processor.
type counts struct {
	now func() time.Time

	mu    sync.Mutex // held while counting
	stats store.Stats
	until time.Time
}

func (c *counts) get(ctx context.Context, count func(context.Context) (store.Stats, error)) (store.Stats, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	began := c.now()
	if began.Before(c.until) {
		return c.stats, nil
	}
	stats, err := count(ctx)
	if err != nil {
		return store.Stats{}, err
	}
	if took := c.now().Sub(began); took > slowCount {
		c.stats, c.until = stats, began.Add(countReuse*took)
	}
	return stats, nil
}
