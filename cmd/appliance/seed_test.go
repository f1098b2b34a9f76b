package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestWriteSecret has the service, to which the directory belongs, wait for root with a link.
func TestWriteSecret(t *testing.T) {
	dir := t.TempDir()
	precious, secret := filepath.Join(dir, "precious"), filepath.Join(dir, "config", "secret")
	for _, err := range []error{
		os.WriteFile(precious, []byte("root's"), 0o644), os.Mkdir(filepath.Dir(secret), 0o700), os.Symlink(precious, secret),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	owner := os.Geteuid()
	if owner == 0 {
		owner = 65534
		if err := os.Chown(filepath.Dir(secret), owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeSecret(secret, []byte("password")); err != nil {
		t.Fatal(err)
	}
	if kept, err := os.ReadFile(precious); err != nil || string(kept) != "root's" {
		t.Errorf("what the link named has %q, %v", kept, err)
	}
	if written, err := os.ReadFile(secret); err != nil || string(written) != "password" {
		t.Errorf("the secret is %q, %v", written, err)
	}
	info, err := os.Lstat(secret)
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; info.Mode() != 0o600 || int(uid) != owner {
		t.Errorf("the secret is %s, of %d, want it of %d", info.Mode(), uid, owner)
	}
	if left, err := os.ReadDir(filepath.Dir(secret)); err != nil || len(left) != 1 {
		t.Errorf("left are %v, %v", left, err)
	}
}
