package systemd

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// unitError returns why systemd did not do something with a unit, "" for all of them. result is how
// the job ended (failed, timeout, canceled, dependency, …), "" if it never began.
func (m *Manager) unitError(verb, unit, result string, cause error) error {
	said := slices.DeleteFunc([]string{verb + " " + unit, result}, func(s string) bool { return s == "" })
	if unit == "" {
		said[0] = verb + " unit files"
	}
	err := errors.New(strings.Join(said, ": "))
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
		"org.freedesktop.DBus.Error.AccessDenied", "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
		"org.freedesktop.DBus.Error.AuthFailed",
	}, bus.Name)
}

// absent reports whether the bus means that a unit does not exist.
func absent(err error) bool {
	var bus dbus.Error
	return errors.As(err, &bus) && bus.Name == "org.freedesktop.systemd1.NoSuchUnit"
}
