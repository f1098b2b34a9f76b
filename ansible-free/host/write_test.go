package host

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mirror-appliance/appliance/internal/diskspace/diskspacetest"
	"github.com/mirror-appliance/appliance/internal/hint"
)

func TestWrite_FullDisk(t *testing.T) {
	dir, fill := diskspacetest.Small(t)
	fill()
	path := filepath.Join(dir, "config.yaml")
	err := Local().Write(path, bytes.NewReader(make([]byte, 1<<20)), 0o600, asIs())
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "/proc/") ||
		!strings.Contains(hint.Of(err), "df -h "+dir) {
		t.Errorf("error %v, hint %q", err, hint.Of(err))
	}
}

func TestSystemUser_InUse(t *testing.T) {
	root := t.TempDir()
	write(t, root, "etc/passwd", "appliance:x:990:990::/:/sbin/nologin\n")
	h := Under(root, func(context.Context, string, ...string) ([]byte, error) {
		return nil, errors.New("userdel: user appliance is currently used by process 4711")
	})
	_, err := (&SystemUser{Host: h, Name: "appliance"}).Undo(t.Context(), &Before{})
	if err == nil || !strings.Contains(hint.Of(err), "ps -u appliance") {
		t.Errorf("error %v, hint %q", err, hint.Of(err))
	}
}

// TestSystemUser_groupBefore has a group of that name before the user, which userdel takes along
// where USERGROUPS_ENAB is yes.
func TestSystemUser_groupBefore(t *testing.T) {
	const user, group = "appliance:x:990:970::/:/sbin/nologin\n", "appliance:x:970:\n"
	for _, takesAlong := range []bool{true, false} {
		root := t.TempDir()
		write(t, root, "etc/passwd", "")
		write(t, root, "etc/group", group)
		before := snapshot(t, root)
		h := Under(root, func(_ context.Context, name string, args ...string) ([]byte, error) {
			switch {
			case name == "systemd-sysusers":
				write(t, root, "etc/passwd", user)
			case name == "userdel":
				write(t, root, "etc/passwd", "")
				if takesAlong {
					write(t, root, "etc/group", "")
				}
			case name == "groupadd" && strings.Join(args, " ") == "--system --gid 970 appliance":
				write(t, root, "etc/group", group)
			default:
				t.Errorf("ran %s %q", name, args)
			}
			return nil, nil
		})
		do(t, &SystemUser{Host: h, Name: "appliance", File: "/etc/sysusers.d/appliance.conf"})()
		same(t, "after Undo", snapshot(t, root), before)
	}
}
