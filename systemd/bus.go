package systemd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	sdbus "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// booted exists if systemd is PID 1, see sd_booted(3).
const booted = "/run/systemd/system"

// dial returns a function that connects to the first of the addresses that answers.
//
// A bus comes first: it authenticates the caller. The manager's private socket serves where no bus
// daemon runs, as in a minimal installation, or for a user whose login did not start one. godbus's
// search for the session bus is not used: as its last resort it starts a bus, which has no systemd
// on it.
func dial(ctx context.Context, addresses []address) func() (*dbus.Conn, error) {
	return func() (*dbus.Conn, error) {
		var errs []error
		for _, a := range addresses {
			conn, err := a.dial(ctx)
			if err == nil {
				return conn, nil
			}
			errs = append(errs, fmt.Errorf("%s: %w", a.path, err))
		}
		return nil, errors.Join(errs...)
	}
}

type address struct {
	path  string // as D-Bus writes it, unix:path=…
	hello bool   // a bus, which expects Hello; a private socket does not
}

func (a address) dial(ctx context.Context) (*dbus.Conn, error) {
	conn, err := dbus.Dial(a.path, dbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	// The number, since looking the name up may need a C library.
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if a.hello {
		if err := conn.Hello(); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return conn, nil
}

func systemBus() address {
	if path := os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"); path != "" {
		return address{path: path, hello: true}
	}
	return address{path: "unix:path=/run/dbus/system_bus_socket", hello: true}
}

func systemAddresses() []address {
	return []address{systemBus(), {path: "unix:path=/run/systemd/private"}}
}

func userAddresses(runtimeDir string) []address {
	var addresses []address
	if path := os.Getenv("DBUS_SESSION_BUS_ADDRESS"); path != "" {
		addresses = append(addresses, address{path: path, hello: true})
	}
	escaped := dbus.EscapeBusAddressValue(runtimeDir)
	return append(addresses,
		address{path: "unix:path=" + escaped + "/bus", hello: true},
		address{path: "unix:path=" + escaped + "/systemd/private"})
}

// connect connects to a manager. ctx bounds the connecting only: a connection made with ctx would
// end with it.
func connect(ctx context.Context, user bool) (*sdbus.Conn, context.CancelFunc, error) {
	if _, err := os.Stat(booted); err != nil {
		return nil, nil, hint.New(fmt.Errorf("this machine was not booted with systemd: %w", err),
			"run the daemon yourself: appliance serve --config FILE")
	}
	addresses := systemAddresses()
	if user {
		dir := os.Getenv("XDG_RUNTIME_DIR")
		if dir == "" {
			dir = fmt.Sprintf("/run/user/%d", os.Getuid())
		}
		addresses = userAddresses(dir)
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, end)
	conn, err := sdbus.NewConnection(dial(life, addresses))
	if !stop() && err == nil {
		conn.Close()
		err = ctx.Err()
	}
	if err != nil {
		end()
		return nil, nil, unavailable(user, err)
	}
	return conn, end, nil
}

func unavailable(user bool, err error) error {
	if !user {
		return hint.New(fmt.Errorf("systemd does not answer: %w", err),
			"check that D-Bus runs: systemctl status dbus")
	}
	return hint.New(fmt.Errorf("no systemd manager runs for this user: %w", err),
		fmt.Sprintf("log in as the user (over ssh, not with su or sudo), or have an administrator run: "+
			"loginctl enable-linger %d", os.Getuid()))
}

// unitError returns why systemd did not do something with a unit, "" for all of them. result is how
// the job ended (failed, timeout, canceled, dependency, …), "" if it never began.
func (m *Manager) unitError(verb, unit, result string, cause error) error {
	err := errors.New(verb + " " + cmp.Or(unit, "unit files"))
	if result != "" {
		err = fmt.Errorf("%w: %s", err, result)
	}
	if cause != nil {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	return hint.New(err, m.unitHint(unit, cause))
}

func (m *Manager) unitHint(unit string, cause error) string {
	switch {
	case refused(cause):
		return "run this as root (sudo), or install for your own user"
	case unit == "":
		return "see what systemd complained about with: journalctl -b _PID=1"
	case m.user:
		return "see why with: journalctl --user -u " + unit
	default:
		return "see why with: journalctl -u " + unit
	}
}

// refused reports whether the bus demands more rights than this process has.
func refused(err error) bool {
	var bus dbus.Error
	return errors.As(err, &bus) && slices.Contains([]string{
		"org.freedesktop.DBus.Error.AccessDenied",
		"org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
		"org.freedesktop.DBus.Error.AuthFailed",
	}, bus.Name)
}

// absent reports whether the bus means that a unit does not exist.
func absent(err error) bool {
	var bus dbus.Error
	return errors.As(err, &bus) && bus.Name == "org.freedesktop.systemd1.NoSuchUnit"
}
