package registry

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/jobs"
	"github.com/mirror-appliance/appliance/registry/store"
)

// status returns the state of the daemon. A value that cannot be read is a trouble of its own.
func (d *daemon) status(ctx context.Context) (api.Status, error) {
	s := api.Status{
		Version: d.version, Address: d.cfg.Address(), Started: d.started, Socket: d.cfg.ControlSocket, Database: d.cfg.DatabaseName(),
		Certificate: d.tls.NotAfter(), CA: timeOrNil(d.tls.CANotAfter()),
		Renews: d.cfg.TLS.CAKey != "", PullQuota: int64(d.cfg.PullQuota),
	}
	family := d.family.Describe()
	s.Family, s.Following = &family, d.family.state()
	s.Offline, s.PendingConfig = d.link.Offline(), d.pendingConfig()
	s.Catalogs, s.CatalogsPass = d.views.State(), d.jobs.Catalogs.Progress()
	s.Updates = d.updates.State()
	for _, v := range s.Catalogs {
		if v.Error != "" {
			s.Trouble = append(s.Trouble, api.Trouble{Problem: "view " + v.Name + ": " + v.Error, Hint: v.Hint})
		}
	}
	found := d.health.report(ctx)
	var stored []error
	if !d.down(found) {
		stored = d.storedState(ctx, &s)
		if found.services["database"] && d.store.Damage() != nil { // which counting has found
			found = d.health.report(ctx)
		}
	}
	s.Services, s.Healthy = found.services, found.healthy()
	s.Failing = failing(found)
	for _, service := range []string{"database", "disk_space"} {
		if why, fails := s.Failing[service]; fails {
			s.Trouble = append(s.Trouble, why)
		}
	}
	room, spaceErr := d.store.Space()
	s.Space, s.Traffic = d.spaces(room), d.traffic.state()
	refused, notices := d.tls.Trouble()
	told := errors.As(found.reasons["database"], new(*store.UnavailableError))
	for _, err := range once(slices.Concat(stored, []error{spaceErr}, found.exhausted, d.upstreams.troubles(), refused, notices), told) {
		if err != nil {
			s.Trouble = append(s.Trouble, *troubleOf(err))
		}
	}
	return s, nil
}

// once leaves of errors that the database does not answer the first, which each of its readers has found, or none if that
// is told already.
func once(all []error, told bool) []error {
	return slices.DeleteFunc(all, func(err error) bool {
		down := errors.As(err, new(*store.UnavailableError))
		again := down && told
		told = told || down
		return again
	})
}

// down reports whether the server of the database does not answer: what would wait for it is left out then.
func (d *daemon) down(found findings) bool {
	return d.cfg.DatabaseServer() != "" && !found.services["database"]
}

// storedState adds what the database has. It returns what is wrong.
func (d *daemon) storedState(ctx context.Context, s *api.Status) (troubles []error) {
	counted, err := d.counts.get(ctx, d.store.Stats)
	if err == nil {
		s.Store = (*api.Stats)(&counted)
	}
	if d.store.Damage() != nil {
		err = nil // for health to tell
	}
	s.NextGC, s.NextScrub = timeOrNil(d.jobs.GC.Next()), timeOrNil(d.jobs.Scrub.Next())
	s.LastGC, s.Scrub, s.LastScrub = d.collector.last.Get(), d.scrubber.state(ctx), d.scrubber.complete.Get()
	s.GC, _ = d.collector.planned.look(ctx)
	s.Verify, _ = d.verifying.look(ctx)
	if verified := d.verified.Get(); verified != nil {
		s.LastVerify = &verified.VerifyState
	}
	s.LastBackup = jobs.OpenNote[api.BackupState](ctx, d.store, admin.LastBackup, d.log).Get()
	if past, err := d.store.Runs.Past(ctx, 1, api.ViewRuns, ""); err == nil && len(past) > 0 {
		last := admin.PastSync(past[0])
		s.LastMirror = &last
	}
	troubles = append(troubles, err, d.checkClock(ctx))
	for _, m := range d.mirrors {
		s.Sync = append(s.Sync, m.state(ctx))
		troubles = append(troubles, m.check())
	}
	return troubles
}

// failing returns why services are not healthy.
func failing(found findings) map[string]api.Trouble {
	if found.healthy() {
		return nil
	}
	all := map[string]api.Trouble{}
	for service, reason := range found.reasons {
		all[service] = *troubleOf(reason)
	}
	if _, both := all["auth"]; both && found.reasons["database"] != nil {
		all["auth"] = api.Trouble{Problem: "users cannot be looked up without the database", Hint: "mend the database first"}
	}
	return all
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
