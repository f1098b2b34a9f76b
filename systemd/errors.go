package systemd

import (
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"
)

// UnavailableError says that there is no systemd to talk to.
type UnavailableError struct {
	Problem string
	Remedy  string
	Err     error // the cause; nil when Problem says it all
}

func (e *UnavailableError) Error() string {
	if e.Err == nil {
		return e.Problem
	}
	return e.Problem + ": " + e.Err.Error()
}

func (e *UnavailableError) Unwrap() error { return e.Err }

// Hint says what to do next.
func (e *UnavailableError) Hint() string { return e.Remedy }

// UnitError says that systemd could not do something with a unit.
type UnitError struct {
	Unit   string // "" for all of them
	Verb   string // start, stop, restart, enable, …
	Result string // how the job ended: failed, timeout, canceled, dependency, …; "" if it never began
	User   bool   // a unit of the user's manager
	Err    error
}

func (e *UnitError) Error() string {
	text := e.Verb + " " + e.Unit
	if e.Unit == "" {
		text = e.Verb + " unit files"
	}
	if e.Result != "" {
		text += ": " + e.Result
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *UnitError) Unwrap() error { return e.Err }

// Hint says what to do next.
func (e *UnitError) Hint() string {
	switch {
	case refused(e.Err):
		return "run this as root (sudo), or install for your own user"
	case e.Unit == "":
		return "see what systemd complained about with: journalctl -b _PID=1"
	case e.User:
		return "see why with: journalctl --user -u " + e.Unit
	default:
		return "see why with: journalctl -u " + e.Unit
	}
}

// LingerError says that logind would not keep a user's services running, or would not say.
type LingerError struct {
	UID  int
	Verb string // enable, disable, query
	Err  error
}

func (e *LingerError) Error() string {
	return fmt.Sprintf("%s lingering of user %d: %v", e.Verb, e.UID, e.Err)
}

func (e *LingerError) Unwrap() error { return e.Err }

// Hint says what to do next.
func (e *LingerError) Hint() string {
	if !refused(e.Err) {
		return "check that logind runs: systemctl status systemd-logind"
	}
	return fmt.Sprintf("ask an administrator to run: loginctl %s-linger %d", e.Verb, e.UID)
}

// refused says whether the bus wants more rights than this process has.
func refused(err error) bool {
	var bus dbus.Error
	if !errors.As(err, &bus) {
		return false
	}
	switch bus.Name {
	case "org.freedesktop.DBus.Error.AccessDenied", "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", "org.freedesktop.DBus.Error.AuthFailed":
		return true
	}
	return false
}

// absent says whether the bus means that a unit does not exist.
func absent(err error) bool {
	var bus dbus.Error
	return errors.As(err, &bus) && bus.Name == "org.freedesktop.systemd1.NoSuchUnit"
}
