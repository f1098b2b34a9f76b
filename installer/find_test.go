package installer

import (
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
