// Package registry is the daemon: it opens the store, mounts the handlers, runs the jobs, and
// drains on stop.
//
// This package wires the others by constructor arguments; they do not know each other. Refused: a
// framework for dependency injection and a plug-in registry, which hide what runs.
package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/systemd"
)

// Options configures a daemon beside the configuration file.
type Options struct {
	Log       *slog.Logger   // nil: discard
	AccessLog *slog.Logger   // one line a request, see NewAccessLog; nil: none
	Listeners []net.Listener // to serve TLS on; none: listen as the configuration says
	Version   string
	// Config reads the configuration again; nil: there is no file. Hangups are the signals at which
	// that is done.
	Config  func() (*config.Config, error)
	Hangups <-chan os.Signal
	// Mirror returns how the sources of an image set are read, and what ends that; the destination
	// and the events are the caller's. nil: scheduled runs fail.
	Mirror func(context.Context, config.Sync, *slog.Logger) (mirror.Options, func(), error)
	// Existing has Offline refuse a database of PostgreSQL that is empty.
	Existing bool

	starting context.Context  // of Run: ends when the daemon is to end
	waiting  func(store.Wait) // of Run
}

// Run serves until ctx ends and then drains: requests under way have 30 seconds before they are cut
// off.
func Run(ctx context.Context, cfg *config.Config, o Options) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	// The store outlives ctx, since requests continue while draining.
	o.starting = ctx
	wait := &startWait{cfg: cfg, given: o, began: time.Now(), log: o.Log}
	o.waiting = wait.note
	d, err := open(context.WithoutCancel(ctx), cfg, o)
	wait.end()
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			err = nil // it was to end while it waited
		}
		return errors.Join(err, closeAll(o.Listeners))
	}
	return d.endAfter(d.serve(ctx))
}

// endAfter closes the daemon after all requests have ended. If some still write, it leaves the
// store as a power cut would, which the store survives.
func (d *daemon) endAfter(err error) error {
	if errors.Is(err, errStillServing) {
		return err
	}
	return errors.Join(err, d.close())
}

func (d *daemon) serve(ctx context.Context) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	g, ctx := errgroup.WithContext(ctx) // ends with ctx and with the first that fails
	released := d.holdWrites(ctx)
	d.family.Ask()
	servers, err := d.listen(ctx)
	if err != nil {
		return err
	}
	g.Go(released)
	for _, s := range servers {
		g.Go(func() error { return s.serve() })
	}
	if err := d.tls.Obtain(); err != nil {
		d.log.Error("the ACME server cannot be asked for a certificate", "error", err)
	}
	g.Go(func() error { return d.whileAlone(ctx, d.workOnItsOwn) })
	g.Go(func() error { return d.family.Talk(ctx) })
	g.Go(func() error { return d.heedOthers(ctx) })
	g.Go(func() error { return d.updates.Follow(ctx) })
	g.Go(func() error { return d.maintain(ctx) })
	g.Go(func() error { return d.warnOfCertificate(ctx) })
	g.Go(func() error { return d.watchSpace(ctx) })
	g.Go(func() error { return d.watchClock(ctx) })
	g.Go(func() error { return d.misses.Keep(ctx) })
	g.Go(func() error { return upstreamAdmin{d}.reloadOn(ctx, d.given.Hangups) })
	feeding, fed := context.WithCancel(context.WithoutCancel(ctx)) // also while draining
	g.Go(func() error { return systemd.Watchdog(feeding, d.alive) })
	var cut error
	g.Go(func() error {
		defer fed()
		<-ctx.Done()
		cut = d.drain(ctx, servers)
		return nil
	})
	d.log.Info("ready", "address", d.cfg.Address(), "version", d.version, "listening", addresses(servers))
	d.notify("ready", systemd.NotifyReady)
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return errors.Join(err, cut)
	}
	return cut
}

// workOnItsOwn does what the appliance does without having been asked, until ctx ends.
func (d *daemon) workOnItsOwn(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.jobs.GC.Schedule(ctx, api.GCRequest{}) })
	g.Go(func() error {
		return d.jobs.Scrub.Schedule(ctx, api.ScrubRequest{BytesPerSecond: int64(d.cfg.Scrub.Rate)})
	})
	g.Go(func() error { return d.sweepShared(ctx) })
	g.Go(func() error { return d.family.copy(ctx) })
	for _, do := range []func(context.Context) error{d.scheduleMirrors, d.views.Follow, d.clusters.Follow, d.evictor.run} {
		g.Go(func() error { return d.family.whilePrimary(ctx, do) })
	}
	return g.Wait()
}

// drain lets requests under way finish, on all servers at once. Requests that were cut off are no
// error.
func (d *daemon) drain(ctx context.Context, servers []*server) error {
	d.notify("stopping", systemd.NotifyStopping)
	d.log.Info("draining", "limit", drainLimit)
	d.quit()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainLimit)
	defer cancel()
	errs := make([]error, len(servers))
	var all sync.WaitGroup
	for i, s := range servers {
		all.Go(func() { errs[i] = s.drain(ctx) })
	}
	all.Wait()
	err := errors.Join(errs...)
	if err != nil {
		d.log.Warn("requests were cut off", "error", err)
	}
	if errors.Is(err, errStillServing) {
		return err
	}
	return nil
}

// alive is for the watchdog. The checks fail on a draining daemon, which ends anyway.
func (d *daemon) alive(ctx context.Context) error {
	if d.draining.Err() != nil {
		return nil
	}
	return d.health.alive(ctx)
}

// notify tells systemd, and logs if it cannot.
func (d *daemon) notify(what string, tell func() error) {
	if err := tell(); err != nil {
		d.log.Warn("systemd could not be told", "state", what, "error", err)
	}
}

func closeAll(ls []net.Listener) error {
	var errs []error
	for _, l := range ls {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

func addresses(servers []*server) []string {
	var all []string
	for _, s := range servers {
		all = append(all, fmt.Sprintf("%s:%s", s.listener.Addr().Network(), s.listener.Addr()))
	}
	return all
}
