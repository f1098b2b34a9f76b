package systemd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// What a running systemd answers is tested by the end-to-end tests, on one; here is
// what needs none.

func TestConnect_NobodyThere(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	_, err := Connect(t.Context(), true)
	if err == nil || hint.Of(err) == "" {
		t.Errorf("got %v", err)
	}
}

func TestLinger_NobodyThere(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+t.TempDir()+"/none")
	m := &Manager{}
	for name, call := range map[string]func(context.Context, int) error{
		"enable":  func(ctx context.Context, uid int) error { return m.SetLinger(ctx, uid, true) },
		"disable": func(ctx context.Context, uid int) error { return m.SetLinger(ctx, uid, false) },
		"query":   func(ctx context.Context, uid int) error { _, err := m.Linger(ctx, uid); return err },
	} {
		err := call(t.Context(), 1000)
		if err == nil || !strings.Contains(hint.Of(err), "systemd-logind") || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestErrors(t *testing.T) {
	denied := dbus.Error{Name: "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", Body: []any{"Interactive authentication required."}}
	system, user := &Manager{}, &Manager{user: true}
	for _, c := range []struct {
		err        error
		says, hint string
	}{
		{system.unitError("start", Service, "failed", nil), "start appliance.service: failed", "see why with: journalctl -u appliance.service"},
		{user.unitError("start", Service, "timeout", nil), "start appliance.service: timeout", "see why with: journalctl --user -u appliance.service"},
		{system.unitError("stop", Socket, "", context.Canceled), "stop appliance.socket: context canceled", "see why with: journalctl -u appliance.socket"},
		{system.unitError("enable", Service, "", denied), "enable appliance.service: Interactive authentication required.", "run this as root (sudo), or install for your own user"},
		{system.unitError("reload", "", "", context.Canceled), "reload unit files: context canceled", "see what systemd complained about with: journalctl -b _PID=1"},
		{lingerError("enable", 1000, denied), "enable lingering of user 1000: Interactive authentication required.", "ask an administrator to run: loginctl enable-linger 1000"},
	} {
		if c.err.Error() != c.says || hint.Of(c.err) != c.hint {
			t.Errorf("got %q, %q; want %q, %q", c.err, hint.Of(c.err), c.says, c.hint)
		}
	}
	if err := system.unitError("stop", Socket, "", context.Canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("the cause of %v is lost", err)
	}
}

func TestStatus_read(t *testing.T) {
	s := Status{LoadState: "as it was", NRestarts: 7}
	if err := s.read(nil); err != nil || s != (Status{LoadState: "as it was", NRestarts: 7}) {
		t.Errorf("absent properties: %+v %v", s, err)
	}
	err := s.read(map[string]any{"ActiveState": "active", "NRestarts": uint32(3)})
	if err != nil || s.ActiveState != "active" || s.NRestarts != 3 {
		t.Errorf("got %+v %v", s, err)
	}
	for name, value := range map[string]any{"NRestarts": "three", "ActiveState": uint32(3)} {
		if s.read(map[string]any{name: value}) == nil {
			t.Errorf("%s of another type passes", name)
		}
	}
}

func TestNoPolkit(t *testing.T) {
	for name, want := range map[string]bool{
		"org.freedesktop.DBus.Error.ServiceUnknown": true, "org.freedesktop.systemd1.UnitMasked": true,
		"org.freedesktop.DBus.Error.NoReply": false,
	} {
		if err := fmt.Errorf("ask: %w", dbus.Error{Name: name}); noPolkit(err) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
	if noPolkit(context.DeadlineExceeded) {
		t.Error("a timeout means that there is no polkit")
	}
}
