package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/jobs"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/store/sharedrows"
)

// heedEvery is how often a daemon reads what it goes by and others may have written, if it is not told.
const heedEvery = 5 * time.Second

// several names this host where other daemons may have the same store; "": there is no other.
func (d *daemon) several() string {
	if !d.store.Several() {
		return ""
	}
	return hostHere()
}

// heedOthers has this daemon go by what another one of its store has decided: the role, whether the
// link is cut, and the certificate. It returns when ctx ends, and at once where there is no other.
func (d *daemon) heedOthers(ctx context.Context) error {
	if !d.store.Several() {
		return nil
	}
	failing, apart := false, ""
	for {
		err := d.family.Refresh(ctx)
		if !errors.As(err, new(*store.UnavailableError)) { // which the link would find as well, and a log line cuts two of them
			err = errors.Join(err, d.link.refresh(ctx))
		}
		if err != nil && ctx.Err() == nil && !failing {
			d.log.WarnContext(ctx, "what other daemons of this store have decided cannot be read", "error", err)
		}
		failing = err != nil
		apart = d.heedCertificate(ctx, apart)
		select {
		case <-ctx.Done():
			return nil
		case <-d.store.Noted():
		case <-time.After(heedEvery):
		}
	}
}

// heedCertificate serves the certificate that another daemon has renewed. It returns why it cannot, which
// is logged if it is not what was told before.
func (d *daemon) heedCertificate(ctx context.Context, told string) string {
	err := d.tls.Refresh(ctx)
	if err == nil || ctx.Err() != nil {
		return ""
	}
	if err.Error() != told {
		d.log.WarnContext(ctx, "the certificate that the daemons share is not followed; the last one goes on being served", "error", err, "hint", hint.Of(err))
	}
	return err.Error()
}

// claimHostname refuses another hostname than that of the daemons that run: clients reach all by one name.
func (d *daemon) claimHostname(ctx context.Context) error {
	other, at, err := d.store.ClaimHostname(ctx, d.cfg.Hostname)
	if err != nil {
		return fmt.Errorf("look for the hostname of the other daemons: %w", err)
	}
	if other == "" {
		return nil
	}
	return hint.New(fmt.Errorf("`hostname:` in config.yaml is %s, and that of the daemon on %s, which has the same database, is %s", d.cfg.Hostname, at, other),
		"let `hostname:` be "+other+" here too; to give the registry another name, stop all daemons, change hostname at each, and start them")
}

// scheduledWork is the name of what one daemon of a store does without having been asked.
const scheduledWork = "scheduled work"

// standIn is how often a daemon that stands by looks whether the one that works on its own is gone.
const standIn = 3 * time.Second

// whileAlone calls do while no other daemon of the store does, until ctx ends.
func (d *daemon) whileAlone(ctx context.Context, do func(context.Context) error) error {
	if !d.store.Several() {
		return do(ctx)
	}
	told := "" // the host of which the log tells already
	for {
		alone, err := d.store.Alone(ctx, scheduledWork)
		host, held := store.IsHeld(err)
		switch {
		case err == nil:
			told = ""
			d.log.InfoContext(ctx, "this daemon does the scheduled work")
			within, end := alone.Within(ctx)
			err = do(within)
			lost := within.Err() != nil && ctx.Err() == nil
			end()
			alone.Release()
			if err != nil && !lost || ctx.Err() != nil {
				return err
			}
			d.log.WarnContext(ctx, "this daemon does not do the scheduled work any more: it lost the connection to the database")
		case held && host != told:
			told = host
			d.log.InfoContext(ctx, "another daemon does the scheduled work", "host", host)
		case !held && ctx.Err() == nil:
			d.log.DebugContext(ctx, "whether another daemon does the scheduled work is not known", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(standIn):
		}
	}
}

// workedAt returns the host whose daemon does the scheduled work, "" if that is this one or not known.
func (d *daemon) workedAt(ctx context.Context) string {
	alone, err := d.store.Alone(ctx, scheduledWork)
	if err == nil {
		alone.Release()
	}
	host, _ := store.IsHeld(err)
	return host
}

// latest returns when a note's work last succeeded at any daemon of the store; nil where there is one.
func latest[T any](s *store.Store, note *jobs.Note[T], succeeded func(*T) time.Time) func() time.Time {
	if !s.Several() {
		return nil
	}
	return func() time.Time {
		last := note.Get()
		if last == nil {
			return time.Time{}
		}
		return succeeded(last)
	}
}

// next returns the note of when scheduled work begins next, which is at whichever daemon does it; nil where there is one.
func (d *daemon) next(ctx context.Context, name string) *jobs.Note[time.Time] {
	if !d.store.Several() {
		return nil
	}
	return jobs.OpenNote[time.Time](ctx, d.store, name, d.log)
}

// alone has work of a kind be alone among the daemons of the store; nil where there is one.
func (d *daemon) alone(name string) func(context.Context) (jobs.Alone, error) {
	if !d.store.Several() {
		return nil
	}
	return func(ctx context.Context) (jobs.Alone, error) {
		alone, err := d.store.Alone(ctx, name)
		if host, held := store.IsHeld(err); held {
			return nil, &jobs.BusyError{Name: name, Host: host}
		}
		if err != nil {
			return nil, err
		}
		return alone, nil
	}
}

// sharedMisses returns the rows of the misses of several daemons; nil where there is one.
func (d *daemon) sharedMisses() *sharedrows.Misses {
	if !d.store.Several() {
		return nil
	}
	return d.store.Shared().Misses
}
