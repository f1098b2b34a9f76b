package installer

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/systemd"
)

// ServiceManager is what the installer asks of systemd and logind. *systemd.Manager is it.
type ServiceManager interface {
	Reload(ctx context.Context) error
	Enable(ctx context.Context, units ...string) (changed bool, err error)
	Disable(ctx context.Context, units ...string) (changed bool, err error)
	Start(ctx context.Context, units ...string) error
	Stop(ctx context.Context, units ...string) error
	Restart(ctx context.Context, units ...string) error
	ResetFailed(ctx context.Context, units ...string) error
	Status(ctx context.Context, unit string) (systemd.Status, error)
	Linger(ctx context.Context, uid int) (bool, error)
	SetLinger(ctx context.Context, uid int, on bool) error
	Close()
}

// Resolver is the part of net.Resolver that preflight uses.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

func connectSystemd(ctx context.Context, user bool) (ServiceManager, error) {
	m, err := systemd.Connect(ctx, user)
	if err != nil {
		return nil, err // not a nil *systemd.Manager
	}
	return m, nil
}

// bus is the connection that the steps share. The first of them opens it, and the plan closes it, so that a
// plan that is only shown leaves nothing open.
type bus struct {
	ServiceManager // nil until open
	connect        func(ctx context.Context, user bool) (ServiceManager, error)
	user           bool
}

func (b *bus) open(ctx context.Context) (err error) {
	if b.ServiceManager == nil {
		b.ServiceManager, err = b.connect(ctx, b.user)
	}
	return err
}

func (b *bus) close() {
	if b != nil && b.ServiceManager != nil {
		b.ServiceManager.Close()
		b.ServiceManager = nil
	}
}

// guard does nothing until it is undone, which, since it is the first step, is after every file has been
// restored: then systemd reads the units again, and the service that ran before runs as before.
type guard struct {
	bus     *bus
	before  systemd.Status
	applied bool
}

func (s *guard) String() string { return "" }

func (s *guard) Apply(ctx context.Context) (bool, error) {
	if err := s.bus.open(ctx); err != nil {
		return false, err
	}
	status, err := s.bus.Status(ctx, systemd.Service)
	if err != nil {
		return false, fmt.Errorf("ask systemd for %s: %w", systemd.Service, err)
	}
	s.before, s.applied = status, true
	return false, nil
}

func (s *guard) Undo(ctx context.Context) error {
	if !s.applied {
		return nil
	}
	if err := s.bus.Reload(ctx); err != nil {
		return err
	}
	if s.before.ActiveState != "active" {
		return nil
	}
	status, err := s.bus.Status(ctx, systemd.Service)
	if err != nil {
		return err
	}
	if status.ActiveState == "active" && status.MainPID == s.before.MainPID {
		return nil // it never noticed
	}
	if err := s.bus.Start(ctx, systemd.Socket); err != nil {
		return err
	}
	return s.bus.Restart(ctx, systemd.Service)
}

// reload is done always: whether systemd has read the units, no file tells.
type reload struct{ bus *bus }

func (s *reload) String() string                          { return "let systemd read its units" }
func (s *reload) Apply(ctx context.Context) (bool, error) { return false, s.bus.Reload(ctx) }
func (s *reload) Undo(context.Context) error              { return nil }

// enable makes the units start at boot, and makes the alias.
type enable struct {
	bus     *bus
	changed bool
}

func (s *enable) String() string {
	return "enable " + systemd.Socket + " and " + systemd.Service + ", so that they start at boot"
}

func (s *enable) Apply(ctx context.Context) (bool, error) {
	changed, err := s.bus.Enable(ctx, systemd.Socket, systemd.Service)
	s.changed = changed || err != nil
	return changed, err
}

func (s *enable) Undo(ctx context.Context) error {
	if !s.changed {
		return nil
	}
	_, err := s.bus.Disable(ctx, systemd.Service, systemd.Socket)
	return err
}

// start makes the socket listen and the service run what is now on the disk.
type start struct {
	bus    *bus
	host   *host.Host
	user   bool
	binary string
	stale  []*tracked // what the running daemon has read; a change of it asks for a restart
	socket *tracked   // the socket's unit
	// renamed says that config.yaml has another hostname than the certificate, which the daemon makes when it starts.
	renamed bool

	touched bool
}

func (s *start) String() string { return "start " + systemd.Socket + " and " + systemd.Service }

func (s *start) Apply(ctx context.Context) (bool, error) {
	service, err := s.bus.Status(ctx, systemd.Service)
	if err != nil {
		return false, err
	}
	socket, err := s.bus.Status(ctx, systemd.Socket)
	if err != nil {
		return false, err
	}
	running, listening := service.ActiveState == "active", socket.ActiveState == "active"
	if running && listening && !s.outdated(service) {
		return false, nil
	}
	s.touched = true
	began := time.Now()
	return true, withJournal(ctx, s.host, s.user, began, s.run(ctx, running, listening))
}

func (s *start) run(ctx context.Context, running, listening bool) error {
	if !running {
		// What failed before, perhaps too often, is over.
		if err := s.bus.ResetFailed(ctx, systemd.Service, systemd.Socket); err != nil {
			return err
		}
	}
	if !listening || s.socket.changed {
		// A socket is started only while its service is not running.
		if err := s.bus.Stop(ctx, systemd.Socket, systemd.Service); err != nil {
			return err
		}
		if err := s.bus.Start(ctx, systemd.Socket); err != nil {
			return err
		}
	}
	return s.bus.Restart(ctx, systemd.Service)
}

// outdated says whether the daemon runs something else than what is on the disk, be it that this run
// changed it or that an earlier one was killed before it could restart the daemon.
func (s *start) outdated(service systemd.Status) bool {
	for _, t := range append(s.stale, s.socket) {
		if t.changed {
			return true
		}
	}
	if s.renamed || service.MainPID == 0 {
		return s.renamed
	}
	running, err := os.Stat(fmt.Sprintf("/proc/%d/exe", service.MainPID))
	if err != nil {
		return false
	}
	installed, err := os.Stat(s.host.Path(s.binary))
	return err == nil && !os.SameFile(running, installed)
}

func (s *start) Undo(ctx context.Context) error {
	if !s.touched {
		return nil
	}
	if err := s.bus.Stop(ctx, systemd.Socket, systemd.Service); err != nil {
		return err
	}
	// Otherwise systemd goes on listing the unit as failed after its file has gone.
	return s.bus.ResetFailed(ctx, systemd.Service, systemd.Socket)
}

// withJournal adds to err what the daemon has said since, as far as the journal can be read.
func withJournal(ctx context.Context, h *host.Host, user bool, since time.Time, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	args := []string{"--unit", systemd.Service, "--lines", "15", "--no-pager", "--output", "cat", "--since", fmt.Sprintf("@%d", since.Unix())}
	if user {
		args = append([]string{"--user"}, args...)
	}
	out, jerr := h.Run(ctx, "journalctl", args...)
	text := strings.TrimSpace(string(out))
	if jerr != nil || text == "" || strings.Contains(text, "-- No entries --") {
		return err
	}
	return fmt.Errorf("%w\nthe daemon's last words:\n  %s", err, strings.ReplaceAll(text, "\n", "\n  "))
}

// linger lets a user's services run while the user is not logged in.
type linger struct {
	bus *bus
	uid int

	changed bool
}

func (s *linger) String() string {
	return "let services of this user run while nobody is logged in (lingering)"
}

func (s *linger) Apply(ctx context.Context) (bool, error) {
	on, err := s.bus.Linger(ctx, s.uid)
	if err != nil || on {
		return false, err
	}
	s.changed = true
	return true, s.bus.SetLinger(ctx, s.uid, true)
}

func (s *linger) Undo(ctx context.Context) error {
	if !s.changed {
		return nil
	}
	return s.bus.SetLinger(ctx, s.uid, false)
}

// tracked remembers whether its step changed something.
type tracked struct {
	Step
	changed bool
}

func (t *tracked) Apply(ctx context.Context) (bool, error) {
	changed, err := t.Step.Apply(ctx)
	t.changed = t.changed || changed
	return changed, err
}

// Close passes on: what is embedded is an interface that has no Close.
func (t *tracked) Close() error {
	if c, ok := t.Step.(interface{ Close() error }); ok {
		return c.Close()
	}
	return nil
}

func unitPath(dir, unit string) string { return filepath.Join(dir, unit) }
