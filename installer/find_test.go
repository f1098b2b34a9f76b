package installer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/systemd"
)

// Find understands whatever systemd's room writes, odd paths and all.
func TestFind(t *testing.T) {
	for _, root := range []string{"/root/quay-install", "/opt/my quay", `/opt/100% "q" 'r' $HOME \x20/quay`} {
		b := newBox(t, false)
		conf := root + "/quay-config/config.yaml"
		b.write("etc/systemd/system/appliance.service", string(systemd.ServiceUnit(systemd.ServiceOptions{
			Binary: "/opt/a b/app%", Config: conf, DataDirs: []string{root},
		})))
		found, err := find(b.deps, false)
		if err != nil {
			t.Errorf("Find %s: %v", root, err)
			continue
		}
		if found.QuayRoot != root || found.Config != conf || found.Binary != "/opt/a b/app%" {
			t.Errorf("Find: %+v, want %s", found, root)
		}
	}
}

func TestFind_Nothing(t *testing.T) {
	b := newBox(t, true)
	_, err := find(b.deps, true)
	if !isNotInstalled(err) || !strings.HasSuffix(err.Error(), " /home/alice/.config/systemd/user/appliance.service") || hint.Of(err) == "" {
		t.Errorf("Find: %v", err)
	}
}

// TestIdentity_CheckPort: clients come by the port of config.yaml, and an edit alone opens none.
func TestIdentity_CheckPort(t *testing.T) {
	b := newBox(t, os.Geteuid() != 0)
	b.install()
	for _, want := range []string{"", "says port 8444, and appliance.socket listens on another"} {
		id, err := Locate(b.deps, "", "")
		if err != nil {
			t.Fatal(err)
		}
		if err := id.CheckPort(b.deps); (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("CheckPort: %v", err)
		}
		b.edit("port: 8443", "port: 8444")
		b.edit(":8443", ":8444")
	}
}

// A path is absolute before a command runs again as the registry's user, who may have no way to this directory.
func TestLocate_relative(t *testing.T) {
	want, err := filepath.Abs("config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if path, err := locate(newBox(t, false).deps, "config.yaml", ""); err != nil || path != want {
		t.Errorf("locate gives %s, %v, want %s", path, err, want)
	}
}
