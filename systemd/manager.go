// Package systemd holds the appliance's side of the init system: the texts of its units, the
// manager that starts them, and what a started daemon exchanges with it (readiness, watchdog,
// sockets).
//
// Use ServiceUnit and SocketUnit to write the units and Connect to start them; Listeners, Watchdog
// and the Notify functions in the daemon. Refused: running systemctl and loginctl, whose output is
// for people, while a job's result is on the bus only; and patching unit files, since a text
// written as a whole can be compared with the one on disk.
package systemd

import (
	"context"
	"fmt"
	"reflect"

	sdbus "github.com/coreos/go-systemd/v22/dbus"
)

const (
	// Service is the unit of the daemon. Its alias, for scripts, is quay-app.service.
	Service = "appliance.service"
	// Socket keeps the port open, so that no connection is refused while the daemon restarts.
	Socket = "appliance.socket"
	// Recover is the unit that takes an upgrade back at boot, while one is under way.
	Recover = "appliance-recover.service"

	// socketName is the FileDescriptorName= of the socket.
	socketName = "https"
)

// Manager is a connection to a running systemd, the system's or that of a user.
type Manager struct {
	conn *sdbus.Conn
	end  context.CancelFunc
	user bool
}

// Status is the state of a unit.
type Status struct {
	LoadState     string // loaded, not-found, …
	ActiveState   string // active, activating, inactive, failed, …
	UnitFileState string // enabled, disabled, "" …
	Result        string // success, exit-code, watchdog, …; "" for what is neither service nor socket
	NRestarts     uint32 // of a service
	MainPID       uint32 // of a service
}

// Connect connects to the system's manager or, with user, to the manager of the user of this
// process. ctx bounds the connecting, not the connection.
func Connect(ctx context.Context, user bool) (*Manager, error) {
	conn, end, err := connect(ctx, user)
	if err != nil {
		return nil, err
	}
	return &Manager{conn: conn, end: end, user: user}, nil
}

// Close ends the connection.
func (m *Manager) Close() {
	m.conn.Close()
	m.end()
}

// Reload makes systemd read unit files again.
func (m *Manager) Reload(ctx context.Context) error {
	if err := m.conn.ReloadContext(ctx); err != nil {
		return m.unitError("reload", "", "", err)
	}
	return nil
}

// Enable makes units start at boot and reports whether that changed anything.
func (m *Manager) Enable(ctx context.Context, units ...string) (changed bool, err error) {
	_, changes, err := m.conn.EnableUnitFilesContext(ctx, units, false, true)
	if err != nil {
		return false, m.unitError("enable", units[0], "", err)
	}
	return len(changes) > 0, nil
}

// Disable keeps units from starting at boot and reports whether that changed anything.
func (m *Manager) Disable(ctx context.Context, units ...string) (changed bool, err error) {
	changes, err := m.conn.DisableUnitFilesContext(ctx, units, false)
	if err != nil && !absent(err) {
		return false, m.unitError("disable", units[0], "", err)
	}
	return len(changes) > 0, nil
}

// Start starts units in order and waits until each has started: a service of Type=notify, until it
// is ready.
func (m *Manager) Start(ctx context.Context, units ...string) error {
	return m.run(ctx, "start", m.conn.StartUnitContext, units)
}

// Queue begins to start units, and does not wait for them.
func (m *Manager) Queue(ctx context.Context, units ...string) error {
	for _, unit := range units {
		if _, err := m.conn.StartUnitContext(ctx, unit, "replace", nil); err != nil {
			return m.unitError("start", unit, "", err)
		}
	}
	return nil
}

// Stop stops units in order and waits for each. A unit that does not exist is not an error. Stop
// the socket before the service: otherwise the next connection starts the service again.
func (m *Manager) Stop(ctx context.Context, units ...string) error {
	return m.run(ctx, "stop", m.conn.StopUnitContext, units)
}

// Restart restarts units, or starts them, and waits for each.
func (m *Manager) Restart(ctx context.Context, units ...string) error {
	return m.run(ctx, "restart", m.conn.RestartUnitContext, units)
}

// ResetFailed makes systemd forget that units failed. A unit that does not exist is not an error.
func (m *Manager) ResetFailed(ctx context.Context, units ...string) error {
	for _, unit := range units {
		if err := m.conn.ResetFailedUnitContext(ctx, unit); err != nil && !absent(err) {
			return m.unitError("reset", unit, "", err)
		}
	}
	return nil
}

// job is a method of the bus that begins something with a unit. The result comes over the channel.
type job func(ctx context.Context, unit, mode string, done chan<- string) (int, error)

func (m *Manager) run(ctx context.Context, verb string, begin job, units []string) error {
	for _, unit := range units {
		if err := m.wait(ctx, verb, begin, unit); err != nil {
			return err
		}
	}
	return nil
}

// wait begins a job and waits until it or ctx ends. When ctx ends, the job goes on in systemd.
func (m *Manager) wait(ctx context.Context, verb string, begin job, unit string) error {
	done := make(chan string, 1) // a result without a reader must not block the others
	if _, err := begin(ctx, unit, "replace", done); err != nil {
		if verb == "stop" && absent(err) {
			return nil
		}
		return m.unitError(verb, unit, "", err)
	}
	select {
	case result := <-done:
		if result != "done" {
			return m.unitError(verb, unit, result, nil)
		}
		return nil
	case <-ctx.Done():
		return m.unitError(verb, unit, "", ctx.Err())
	}
}

// Status returns the state of a unit. Of a unit that does not exist, LoadState is not-found.
func (m *Manager) Status(ctx context.Context, unit string) (Status, error) {
	properties, err := m.conn.GetAllPropertiesContext(ctx, unit)
	if err != nil {
		return Status{}, m.unitError("query", unit, "", err)
	}
	var s Status
	if err := s.read(properties); err != nil {
		return Status{}, m.unitError("query", unit, "", err)
	}
	return s, nil
}

// read sets the fields from properties, of which some may be absent: a socket has no NRestarts.
func (s *Status) read(properties map[string]any) error {
	for name, field := range map[string]any{
		"LoadState": &s.LoadState, "ActiveState": &s.ActiveState, "UnitFileState": &s.UnitFileState,
		"Result": &s.Result, "NRestarts": &s.NRestarts, "MainPID": &s.MainPID,
	} {
		value := properties[name]
		if value == nil {
			continue
		}
		to, from := reflect.ValueOf(field).Elem(), reflect.ValueOf(value)
		if to.Type() != from.Type() {
			return fmt.Errorf("property %s: unexpected type %T", name, value)
		}
		to.Set(from)
	}
	return nil
}
