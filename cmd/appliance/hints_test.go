package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/registry/config"
)

// TestBackupOutside has each directory of a registry in a place of its own.
func TestBackupOutside(t *testing.T) {
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
	id := &installer.Identity{Path: at("quay/config/config.yaml"), Config: cfg}
	for _, dir := range []string{cfg.Storage, cfg.TLS.State} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for path, own := range map[string]bool{
		"storage/x": true, "database": true, "run": true, "certificate": true, "ca": true, "state/x": true, "quay/config": true, "quay": true,
		"quay/backup": false, "storage": false, "elsewhere": false,
	} {
		if err := backupOutside(id, at(path)); (err != nil) != own {
			t.Errorf("a backup in %s: %v", path, err)
		}
	}
}

func TestFirstLink(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/elsewhere/", link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{link: link, link + "/below": link, dir + "/absent": "", "": ""} {
		if got, to := firstLink(path); got != want || got != "" && to != "/elsewhere" {
			t.Errorf("%q: %q leads to %q", path, got, to)
		}
	}
}

// TestPlaceHint_namesWhatIsInTheWay tries a path through a file.
func TestPlaceHint_namesWhatIsInTheWay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := os.Open(file + "/in/it")
	if hint := placeHint(err); !strings.HasPrefix(hint, file+" is not a directory") {
		t.Errorf("hint %q", hint)
	}
}
