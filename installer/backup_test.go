package installer

import (
	"os"
	"path/filepath"
	"testing"

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
