package registry

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/store/postgres"
)

// Daemon calls f with a client of the daemon, which user uid runs, and fails if none runs.
func Daemon(ctx context.Context, cfg *config.Config, uid int, f func(*client.Client) error) error {
	control := client.NewUnixOf(cfg.ControlSocket, uid)
	defer control.Close()
	if err := control.Ping(ctx, cfg.DatabaseName()); err != nil {
		return err
	}
	return f(control)
}

// Control calls f with a client of the daemon, which user uid runs. If none runs, open answers the
// control API meanwhile: Offline, in this process or in one of that user's.
func Control(
	ctx context.Context, cfg *config.Config, uid int, open func() (stop func() error, err error),
	f func(*client.Client) error,
) (err error) {
	control := client.NewUnixOf(cfg.ControlSocket, uid)
	defer control.Close()
	if err = control.Ping(ctx, cfg.DatabaseName()); errors.Is(err, client.ErrNotRunning) {
		var stop func() error
		if stop, err = open(); err == nil {
			defer func() { err = errors.Join(err, stop()) }()
		}
	}
	if err != nil {
		return err
	}
	return f(control)
}

// CheckDatabase returns an error if there is no database: opening the store would create one, and
// report that it is undamaged. Other errors are left to what opens it.
func CheckDatabase(cfg *config.Config) error {
	if cfg.DatabaseServer() != "" {
		return nil // the server knows
	}
	if _, err := os.Stat(cfg.Database); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return hint.New(
		fmt.Errorf("there is no database at %s: the registry has never run, or its database is lost", cfg.Database),
		"start the registry, or put a backup there: appliance restore BACKUP")
}

// Offline answers the control API on the configured socket while no daemon runs, so that a command
// has one code path. It owns the store until stop is called, which also ends requests under way. A
// store of an older version is rejected: migrating it, after which the older program cannot open
// it, is left to serve.
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
	s := newServer(d.local(d.newAdmin(nil)), d.log, socket)
	served := make(chan error, 1)
	go func() { served <- s.serve() }()
	return func() error {
		d.quit()
		return errors.Join(d.endAfter(s.cut()), <-served)
	}, nil
}

// ServerState looks at the database in PostgreSQL before another version of the program serves it.
func ServerState(ctx context.Context, cfg *config.Config) (postgres.State, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return store.ServerState(ctx, cfg.DatabaseServer())
}

// CheckLogin looks at the file of passwords of the database in PostgreSQL.
func CheckLogin(cfg *config.Config) error { return store.CheckLogin(cfg.DatabaseServer()) }

// serves reports whether a database is the daemon's, or that of its configuration as it is now.
func (d *daemon) serves(database string) bool {
	if database == d.cfg.DatabaseName() {
		return true
	}
	if d.given.Config == nil {
		return false
	}
	now, err := d.given.Config()
	return err == nil && database == now.DatabaseName()
}

// readyLine is the line that ServeOffline writes once it answers.
const readyLine = "ready\n"

// ServeOffline is Offline until in or ctx ends, for a process that StartOffline starts.
func ServeOffline(ctx context.Context, cfg *config.Config, o Options, in io.Reader, out io.Writer) error {
	stop, err := Offline(ctx, cfg, o)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(out, readyLine); err != nil {
		return errors.Join(err, stop())
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, in)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	return stop()
}

// StartOffline starts a process that calls ServeOffline on its standard input and output, and
// returns once it answers. The process ends with its standard input, and so with this process,
// however that ends. An *exec.ExitError means that the process has reported its error.
func StartOffline(ctx context.Context, c *exec.Cmd) (stop func() error, err error) {
	hold, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("open the store as its owner: %w", err)
	}
	stop = func() error {
		_ = hold.Close() // it may have ended
		err := c.Wait()
		if ctx.Err() != nil { // the signal ended both
			return nil
		}
		return err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != readyLine {
		if stopped := stop(); stopped != nil {
			return nil, stopped
		}
		return nil, errors.Join(ctx.Err(), err)
	}
	return stop, nil
}
