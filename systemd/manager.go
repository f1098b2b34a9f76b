package systemd

import (
	"context"
	"fmt"

	sdbus "github.com/coreos/go-systemd/v22/dbus"
)

// Manager is a connection to a running systemd, the system's or the user's.
type Manager struct {
	conn *sdbus.Conn
	end  context.CancelFunc
	user bool
}

// Status is what systemd says of a unit.
type Status struct {
	LoadState     string // loaded, not-found, …
	ActiveState   string // active, activating, inactive, failed, …
	SubState      string // running, auto-restart, listening, dead, …
	UnitFileState string // enabled, disabled, "" …
	Result        string // success, exit-code, watchdog, …; "" for what is neither service nor socket
	NRestarts     uint32 // of a service
	MainPID       uint32 // of a service
	StatusText    string // what the service says of itself
}

// Connect reaches the system's manager, or, with user, the manager of the user of this process.
// Without one it returns an *UnavailableError. ctx bounds connecting, not the connection.
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
		return m.fail("reload", "", "", err)
	}
	return nil
}

// Enable makes units start at boot and says whether that changed anything.
func (m *Manager) Enable(ctx context.Context, units ...string) (changed bool, err error) {
	_, changes, err := m.conn.EnableUnitFilesContext(ctx, units, false, true)
	if err != nil {
		return false, m.fail("enable", units[0], "", err)
	}
	return len(changes) > 0, nil
}

// EnableNow reads the unit files again, enables the units and starts them, in the order given.
func (m *Manager) EnableNow(ctx context.Context, units ...string) error {
	if err := m.Reload(ctx); err != nil {
		return err
	}
	if _, err := m.Enable(ctx, units...); err != nil {
		return err
	}
	// What enabling linked, such as an alias, is known after another reading.
	if err := m.Reload(ctx); err != nil {
		return err
	}
	return m.Start(ctx, units...)
}

// Disable keeps units from starting at boot and says whether that changed anything.
func (m *Manager) Disable(ctx context.Context, units ...string) (changed bool, err error) {
	changes, err := m.conn.DisableUnitFilesContext(ctx, units, false)
	if err != nil && !absent(err) {
		return false, m.fail("disable", units[0], "", err)
	}
	return len(changes) > 0, nil
}

// DisableNow stops the units, in the order given, and disables them. One that does not exist is fine.
func (m *Manager) DisableNow(ctx context.Context, units ...string) error {
	if err := m.Stop(ctx, units...); err != nil {
		return err
	}
	if _, err := m.Disable(ctx, units...); err != nil {
		return err
	}
	return m.Reload(ctx)
}

// Start starts units, one after the other, and waits until each has started: for a service of Type=notify,
// until it is ready. Failing is a *UnitError.
func (m *Manager) Start(ctx context.Context, units ...string) error {
	return m.each(ctx, "start", m.conn.StartUnitContext, units)
}

// Stop stops units, one after the other, and waits for them. One that does not exist is fine.
// Stop the socket before the service, or the next connection starts the service again.
func (m *Manager) Stop(ctx context.Context, units ...string) error {
	return m.each(ctx, "stop", m.conn.StopUnitContext, units)
}

// Restart restarts units, or starts them, and waits for them.
func (m *Manager) Restart(ctx context.Context, units ...string) error {
	return m.each(ctx, "restart", m.conn.RestartUnitContext, units)
}

// ResetFailed makes systemd forget that units failed. One that does not exist is fine.
func (m *Manager) ResetFailed(ctx context.Context, units ...string) error {
	for _, unit := range units {
		if err := m.conn.ResetFailedUnitContext(ctx, unit); err != nil && !absent(err) {
			return m.fail("reset", unit, "", err)
		}
	}
	return nil
}

// job is how systemd is asked to do something with a unit that takes time; the result comes over the channel.
type job func(ctx context.Context, unit, mode string, done chan<- string) (int, error)

func (m *Manager) each(ctx context.Context, verb string, begin job, units []string) error {
	for _, unit := range units {
		if err := m.wait(ctx, verb, begin, unit); err != nil {
			return err
		}
	}
	return nil
}

// wait begins a job and waits for its end, or for ctx's. The job goes on then: systemd has it.
func (m *Manager) wait(ctx context.Context, verb string, begin job, unit string) error {
	done := make(chan string, 1) // with room, so that a result nobody waits for any more does not hold up the others
	if _, err := begin(ctx, unit, "replace", done); err != nil {
		if verb == "stop" && absent(err) {
			return nil
		}
		return m.fail(verb, unit, "", err)
	}
	select {
	case result := <-done:
		if result != "done" {
			return m.fail(verb, unit, result, nil)
		}
		return nil
	case <-ctx.Done():
		return m.fail(verb, unit, "", ctx.Err())
	}
}

func (m *Manager) fail(verb, unit, result string, err error) error {
	return &UnitError{Unit: unit, Verb: verb, Result: result, User: m.user, Err: err}
}

// Status asks for a unit; for one that does not exist, LoadState is not-found.
func (m *Manager) Status(ctx context.Context, unit string) (Status, error) {
	properties, err := m.conn.GetAllPropertiesContext(ctx, unit)
	if err != nil {
		return Status{}, m.fail("query", unit, "", err)
	}
	var s Status
	for name, field := range map[string]any{
		"LoadState": &s.LoadState, "ActiveState": &s.ActiveState, "SubState": &s.SubState, "UnitFileState": &s.UnitFileState,
		"Result": &s.Result, "NRestarts": &s.NRestarts, "MainPID": &s.MainPID, "StatusText": &s.StatusText,
	} {
		if err := assign(field, properties[name]); err != nil {
			return Status{}, m.fail("query", unit, "", fmt.Errorf("property %s: %w", name, err))
		}
	}
	return s, nil
}

// assign sets a field from a property, which may be absent: a socket has no NRestarts.
func assign(field, value any) error {
	if value == nil {
		return nil
	}
	ok := false
	switch field := field.(type) {
	case *string:
		*field, ok = value.(string)
	case *uint32:
		*field, ok = value.(uint32)
	}
	if !ok {
		return fmt.Errorf("unexpected type %T", value)
	}
	return nil
}
