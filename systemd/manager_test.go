package systemd

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// What a running systemd answers is tested by the end-to-end tests, on one; here is what needs none.

func TestConnect_NobodyThere(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	_, err := Connect(t.Context(), true)
	var unavailable *UnavailableError
	if !errors.As(err, &unavailable) || unavailable.Hint() == "" {
		t.Errorf("got %v", err)
	}
}

func TestLinger_NobodyThere(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+t.TempDir()+"/none")
	for name, call := range map[string]func(context.Context, int) error{
		"enable": EnableLinger, "disable": DisableLinger,
		"query": func(ctx context.Context, uid int) error { _, err := Linger(ctx, uid); return err },
	} {
		err := call(t.Context(), 1000)
		var linger *LingerError
		if !errors.As(err, &linger) || !strings.Contains(linger.Hint(), "systemd-logind") || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestErrors(t *testing.T) {
	denied := dbus.Error{Name: "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", Body: []any{"Interactive authentication required."}}
	for _, c := range []struct {
		err interface {
			error
			Hint() string
		}
		says, hint string
	}{
		{&UnitError{Unit: Service, Verb: "start", Result: "failed"}, "start appliance.service: failed", "see why with: journalctl -u appliance.service"},
		{&UnitError{Unit: Service, Verb: "start", Result: "timeout", User: true}, "start appliance.service: timeout", "see why with: journalctl --user -u appliance.service"},
		{&UnitError{Unit: Socket, Verb: "stop", Err: context.Canceled}, "stop appliance.socket: context canceled", "see why with: journalctl -u appliance.socket"},
		{&UnitError{Unit: Service, Verb: "enable", Err: denied}, "enable appliance.service: Interactive authentication required.", "run this as root (sudo), or install for your own user"},
		{&UnitError{Verb: "reload", Err: context.Canceled}, "reload unit files: context canceled", "see what systemd complained about with: journalctl -b _PID=1"},
		{&LingerError{UID: 1000, Verb: "enable", Err: denied}, "enable lingering of user 1000: Interactive authentication required.", "ask an administrator to run: loginctl enable-linger 1000"},
	} {
		if c.err.Error() != c.says || c.err.Hint() != c.hint {
			t.Errorf("got %q, %q; want %q, %q", c.err, c.err.Hint(), c.says, c.hint)
		}
	}
}

func TestAssign(t *testing.T) {
	text, number := "as it was", uint32(7)
	if err := errors.Join(assign(&text, nil), assign(&number, nil)); err != nil || text != "as it was" || number != 7 {
		t.Errorf("an absent property: %q %d %v", text, number, err)
	}
	if err := errors.Join(assign(&text, "active"), assign(&number, uint32(3))); err != nil || text != "active" || number != 3 {
		t.Errorf("got %q %d %v", text, number, err)
	}
	if assign(&number, "three") == nil || assign(&text, 3) == nil {
		t.Error("a property of another type passes")
	}
}
