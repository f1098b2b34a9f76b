package installer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/registry/config"
)

// TestIdentity_backupOutside has each directory of a registry in a place of its own.
func TestIdentity_backupOutside(t *testing.T) {
	root := t.TempDir()
	at := func(name string) string {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cfg := &config.Config{Storage: at("storage/x"), Database: at("database/x"), ControlSocket: at("run/x"),
		TLS: config.TLS{Certificate: at("certificate/x"), CA: at("ca/x"), State: at("state/x")}}
	id := &Identity{Path: at("quay/config/config.yaml"), Config: cfg}
	for _, dir := range []string{cfg.Storage, cfg.TLS.State} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for path, own := range map[string]bool{
		"storage/x": true, "database": true, "run": true, "certificate": true, "ca": true, "state/x": true, "quay/config": true, "quay": true,
		"quay/backup": false, "storage": false, "elsewhere": false,
	} {
		if err := id.backupOutside(at(path)); (err != nil) != own {
			t.Errorf("a backup in %s: %v", path, err)
		}
	}
}

// TestIdentity_backupElsewhere has places that a user can change who is neither root
// nor the registry's.
func TestIdentity_backupElsewhere(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("gives a directory away")
	}
	root := t.TempDir()
	at := func(name string) string { return filepath.Join(root, name) }
	for _, err := range []error{
		os.Mkdir(at("roots"), 0o755), os.Mkdir(at("mallorys"), 0o755), os.Chown(at("mallorys"), 4711, 4711),
		os.Mkdir(at("sticky"), 0o755), os.Chmod(at("sticky"), 0o777|os.ModeSticky),
		os.Mkdir(at("open"), 0o755), os.Chmod(at("open"), 0o777),
		os.Symlink(at("roots"), at("sticky/link")), os.Lchown(at("sticky/link"), 4711, 4711),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, uid := range []int{0, 4712} {
		id := &Identity{UID: uid, host: host.Local()}
		for path, refused := range map[string]bool{
			"roots": false, "roots/new/one": false, "sticky/new": false, "mallorys": true, "open/new": true, "mallorys/new.tar": true, "sticky/link": true, "sticky/link/new": true,
		} {
			err := id.backupElsewhere(at(path))
			if (err != nil) != refused || refused && !strings.Contains(err.Error(), "user 4711 can change it") && !strings.Contains(err.Error(), "several users can") {
				t.Errorf("a backup of user %d's registry to %s: %v", uid, path, err)
			}
		}
	}
}
