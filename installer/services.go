package installer

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/systemd"
)

// serviceManager is what the installer needs of systemd and logind. *systemd.Manager is it.
type serviceManager interface {
	Reload(ctx context.Context) error
	Enable(ctx context.Context, units ...string) (changed bool, err error)
	Disable(ctx context.Context, units ...string) (changed bool, err error)
	Start(ctx context.Context, units ...string) error
	Queue(ctx context.Context, units ...string) error
	Stop(ctx context.Context, units ...string) error
	Restart(ctx context.Context, units ...string) error
	ResetFailed(ctx context.Context, units ...string) error
	Status(ctx context.Context, unit string) (systemd.Status, error)
	Version() (int, error)
	Linger(ctx context.Context, uid int) (bool, error)
	SetLinger(ctx context.Context, uid int, on bool) error
	MayLinger(ctx context.Context) (bool, error)
	Close()
}

// resolver is the part of net.Resolver that preflight uses.
type resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

func connectSystemd(ctx context.Context, user bool) (serviceManager, error) {
	m, err := systemd.Connect(ctx, user)
	if err != nil {
		return nil, err // not a nil *systemd.Manager
	}
	return m, nil
}

// bus is the connection that the steps of a plan share. Apply opens it, so that a plan that is only
// shown opens none.
type bus struct {
	serviceManager // nil until open
	connect        func(ctx context.Context, user bool) (serviceManager, error)
	user           bool
	needed         bool
	booting        bool // systemd starts the units by itself
}

func (b *bus) open(ctx context.Context) (err error) {
	if b.needed {
		b.serviceManager, err = b.connect(ctx, b.user)
	}
	return err
}

func (b *bus) close() {
	if b.serviceManager != nil {
		b.serviceManager.Close()
	}
}

// action is a step that is always done, and not taken back.
type action struct{}

func (action) Check(context.Context) (*host.Before, error) { return &host.Before{}, nil }

func (action) always() {}

func (action) Undo(context.Context, *host.Before) (bool, error) { return false, nil }

// guard does nothing until it is undone. Since it is the first step, every file has been restored
// by then: systemd reads the units again, and the service that ran before runs as before.
type guard struct {
	bus     *bus
	journal *host.Journal
	Run     string `json:"run,omitempty"` // upgradeRun, rollbackRun; "" for another install
}

func (s *guard) String() string { return "" }

func (s *guard) Check(ctx context.Context) (*host.Before, error) {
	for _, e := range s.journal.Entries {
		if _, ok := e.Step.(*guard); ok {
			return nil, nil // that of the interrupted run counts
		}
	}
	status, err := s.bus.Status(ctx, systemd.Service)
	if err != nil {
		return nil, fmt.Errorf("ask systemd for %s: %w", systemd.Service, err)
	}
	socket, err := s.bus.Status(ctx, systemd.Socket)
	if err != nil {
		return nil, fmt.Errorf("ask systemd for %s: %w", systemd.Socket, err)
	}
	before := &host.Before{PID: status.MainPID}
	switch {
	case status.ActiveState == "active":
		before.Is = "running"
	case status.ActiveState == "activating":
		before.Is = retrying
	case socket.ActiveState == "active":
		before.Is = listening
	}
	return before, nil
}

// What there was of a service that did not run: it ends again and again, such as while a disk is not
// mounted, or the next connection would start it.
const (
	retrying  = "retrying"
	listening = "listening"
)

func (s *guard) Apply(context.Context) (bool, error) { return false, nil }

func (s *guard) Undo(ctx context.Context, before *host.Before) (bool, error) {
	if err := s.bus.Reload(ctx); err != nil || before.Is == "" || s.bus.booting {
		return false, err
	}
	status, err := s.bus.Status(ctx, systemd.Service)
	if err != nil || status.ActiveState == "active" && status.MainPID == before.PID {
		return false, err
	}
	if err := s.bus.Start(ctx, systemd.Socket); err != nil || before.Is == listening {
		return true, err
	}
	if before.Is == retrying {
		return true, s.bus.Queue(ctx, systemd.Service)
	}
	return true, s.bus.Restart(ctx, systemd.Service)
}

// reload is always done: no file tells whether systemd has read the units.
type reload struct {
	action
	bus *bus
}

func (s *reload) String() string { return "let systemd read its units" }

func (s *reload) Apply(ctx context.Context) (bool, error) {
	return false, s.bus.Reload(ctx)
}

// enable makes the units start at boot, and makes the alias.
type enable struct {
	bus     *bus
	host    *host.Host
	UnitDir string `json:"unitDir"`
}

func (s *enable) String() string {
	return "enable " + systemd.Socket + " and " + systemd.Service + ", so that they start at boot"
}

func (s *enable) Taken() string { return "disable " + systemd.Socket + " and " + systemd.Service }

func (s *enable) Check(ctx context.Context) (*host.Before, error) {
	before := &host.Before{Is: "enabled"}
	for _, unit := range []string{systemd.Socket, systemd.Service} {
		status, err := s.bus.Status(ctx, unit)
		if err != nil {
			return nil, err
		}
		if status.UnitFileState != "enabled" {
			before.Is = ""
		}
	}
	return before, nil
}

func (s *enable) Apply(ctx context.Context) (bool, error) {
	return s.bus.Enable(ctx, systemd.Socket, systemd.Service)
}

func (s *enable) Undo(ctx context.Context, before *host.Before) (bool, error) {
	if before.Is == "enabled" {
		return false, nil
	}
	changed, err := s.bus.Disable(ctx, systemd.Service, systemd.Socket)
	if err != nil {
		return changed, err
	}
	// Disabling removes the alias, but not one that a killed run has left.
	alias := filepath.Join(s.UnitDir, "quay-app.service")
	target, err := os.Readlink(s.host.Path(alias))
	if err != nil || filepath.Base(target) != systemd.Service {
		return changed, nil
	}
	return s.host.Remove(alias)
}

// start makes the socket listen and the service run what is on the disk.
type start struct {
	bus     *bus
	host    *host.Host
	journal *host.Journal
	binary  string
	socket  string // path of the socket's unit
	// renamed says that config.yaml has another hostname than the certificate, which the
	// daemon makes when it starts.
	renamed bool
	// unstarted are the entries of a run that may have been killed before the daemon read what
	// they wrote.
	unstarted []host.Entry

	running, socketOpen bool

	// What has connections wait while a move is taken back, see site.gate and site.gateLink; "" for
	// other runs.
	Gate     string `json:"gate,omitempty"`
	GateLink string `json:"gateLink,omitempty"`
}

func (s *start) String() string { return "start " + systemd.Socket + " and " + systemd.Service }

func (s *start) Taken() string { return "stop " + systemd.Socket + " and " + systemd.Service }

func (s *start) Check(ctx context.Context) (*host.Before, error) {
	service, err := s.bus.Status(ctx, systemd.Service)
	if err != nil {
		return nil, err
	}
	socket, err := s.bus.Status(ctx, systemd.Socket)
	if err != nil {
		return nil, err
	}
	s.running = service.ActiveState == "active"
	s.socketOpen = socket.ActiveState == "active" && !s.wrote(s.socket)
	if s.running && s.socketOpen && !s.renamed && !s.wrote("") &&
		!runsAnother(s.host, s.binary, service) {
		return nil, nil
	}
	before := new(host.Before)
	if s.socketOpen {
		before.Is = listening
	}
	return before, nil
}

// wrote reports whether this run, or one that was killed before it, has written a file, "" for any.
func (s *start) wrote(path string) bool {
	return slices.ContainsFunc(slices.Concat(s.unstarted, s.journal.Entries), func(e host.Entry) bool {
		file, ok := e.Step.(*host.File)
		return ok && !file.AnyContent && (path == "" || file.Path == path)
	})
}

func (s *start) Apply(ctx context.Context) (bool, error) {
	began := time.Now()
	return true, withJournal(ctx, s.host, s.bus.user, began, s.run(ctx))
}

func (s *start) run(ctx context.Context) error {
	if !s.running { // what failed before, perhaps too often, is over
		if err := s.bus.ResetFailed(ctx, systemd.Service, systemd.Socket); err != nil {
			return err
		}
	}
	if !s.socketOpen { // a socket is started only while its service is not running
		if err := s.bus.Stop(ctx, systemd.Socket, systemd.Service); err != nil {
			return err
		}
		if err := s.bus.Start(ctx, systemd.Socket); err != nil {
			return err
		}
	}
	return s.bus.Restart(ctx, systemd.Service)
}

func (s *start) Undo(ctx context.Context, before *host.Before) (bool, error) {
	if s.bus.booting {
		return false, nil
	}
	// The socket first: the next connection would start the service again.
	units := []string{systemd.Socket, systemd.Service}
	if before.Is == listening {
		waits, err := s.closeGate()
		if err != nil {
			return false, err
		}
		if waits {
			units = units[1:]
		}
	}
	if err := s.bus.Stop(ctx, units...); err != nil {
		return false, err
	}
	// Otherwise systemd goes on listing the unit as failed after its file has gone.
	return true, s.bus.ResetFailed(ctx, systemd.Service, systemd.Socket)
}

// closeGate closes the gate of a move, and reports whether there is one: then the socket can stay open.
func (s *start) closeGate() (bool, error) {
	if s.Gate == "" {
		return false, nil
	}
	if linked, err := s.host.Exists(s.GateLink); err != nil || !linked {
		return false, err
	}
	return true, closeGate(s.host, s.Gate)
}

// withJournal adds the last lines of the daemon's log to err, as far as they can be read.
func withJournal(ctx context.Context, h *host.Host, user bool, since time.Time, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	args := []string{"--unit", systemd.Service, "--lines", "15", "--no-pager", "--output", "cat",
		"--since", fmt.Sprintf("@%d", since.Unix())}
	if user {
		args = append([]string{"--user"}, args...)
	}
	out, jerr := h.Run(ctx, "journalctl", args...)
	text := strings.TrimSpace(string(out))
	if jerr != nil || text == "" || strings.Contains(text, "-- No entries --") {
		return err
	}
	text = strings.ReplaceAll(text, "\n", "\n  ")
	return fmt.Errorf("%w\nthe end of the daemon's log:\n  %s", err, text)
}

// linger lets a user's services run while the user is not logged in.
type linger struct {
	bus *bus
	UID int `json:"uid"`
}

func (s *linger) String() string {
	return "let services of this user run on after the user logs out (lingering)"
}

func (s *linger) Taken() string { return "let services of this user end when the user logs out" }

func (s *linger) Check(ctx context.Context) (*host.Before, error) {
	if on, err := s.bus.Linger(ctx, s.UID); err != nil || on {
		return nil, err
	}
	return &host.Before{}, nil
}

func (s *linger) Apply(ctx context.Context) (bool, error) {
	return true, s.bus.SetLinger(ctx, s.UID, true)
}

func (s *linger) Undo(ctx context.Context, _ *host.Before) (bool, error) {
	if on, err := s.bus.Linger(ctx, s.UID); err != nil || !on {
		return false, err
	}
	return true, s.bus.SetLinger(ctx, s.UID, false)
}
