package registry

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin"
	"github.com/mirror-appliance/appliance/registry/config"
)

// Offline answers the control API on the configured socket while no daemon runs, so that a command does the same by
// the same code whether one runs or not. A store of an older version is refused: to migrate it is left to serve, since the
// older program does not open it any more after that, which a command that only reads must not cause. It owns the store until stop is called, which also ends requests under way.
func Offline(ctx context.Context, cfg *config.Config, o Options) (stop func() error, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d := &daemon{cfg: cfg, version: o.Version, started: time.Now(), log: o.Log, given: o, offline: true}
	d.draining, d.quit = context.WithCancel(context.WithoutCancel(ctx))
	if err := d.openStore(ctx); err != nil {
		return nil, errors.Join(err, d.close())
	}
	d.openJobs(ctx)
	socket, err := admin.Listen(ctx, cfg.ControlSocket)
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	s := newServer(d.newAdmin(nil), d.log, socket)
	served := make(chan error, 1)
	go func() { served <- s.serve() }()
	return func() error {
		d.quit()
		return errors.Join(d.endAfter(s.cut()), <-served)
	}, nil
}
