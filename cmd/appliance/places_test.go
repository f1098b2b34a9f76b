package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestPlaces_wrongKind has a file where a directory is wanted and the other way round: each command
// says so, and what to do.
func TestPlaces_wrongKind(t *testing.T) {
	f := newFaulty(t, "")
	f.fill(t, 1)
	to := filepath.Join(t.TempDir(), "backup")
	if out, err := f.command("backup", to).CombinedOutput(); err != nil {
		t.Fatalf("backup: %v\n%s", err, out)
	}
	swap := func(path string, put func(string) error) {
		t.Helper()
		must(t, os.Rename(path, path+".aside"))
		must(t, put(path))
	}
	back := func(path string) {
		t.Helper()
		must(t, os.RemoveAll(path))
		must(t, os.Rename(path+".aside", path))
	}
	file := func(path string) error { return os.WriteFile(path, nil, 0o600) }
	dir := func(path string) error { return os.Mkdir(path, 0o700) }
	commands := [][]string{{"serve"}, {"gc"}, {"verify"}, {"scrub"}, {"user", "list"}, {"backup", to + ".tar"}}
	restore := []string{"restore", to}

	swap(f.cfg.Storage, file)
	for _, args := range commands {
		f.refuses(t, args, f.cfg.Storage, "move it away")
	}
	swap(f.cfg.Database, func(string) error { return nil })
	f.refuses(t, restore, f.cfg.Storage, "move it away")
	back(f.cfg.Database)
	back(f.cfg.Storage)
	swap(f.cfg.Database, dir)
	for _, args := range append(commands, restore) {
		f.refuses(t, args, f.cfg.Database, "is a directory", "name a file")
	}
	back(f.cfg.Database)

	existing := filepath.Join(t.TempDir(), "file")
	must(t, file(existing))
	f.refuses(t, []string{"backup", existing}, existing, "is not a directory", "name another place")
	f.refuses(t, []string{"backup", existing + "/in/it"}, existing+" is not a directory", "name another place")
	for _, own := range []string{f.root, filepath.Join(f.root, "quay-config"), filepath.Join(f.root, "quay-rootCA"), filepath.Dir(f.cfg.Database), f.cfg.Storage, filepath.Dir(f.cfg.ControlSocket)} {
		f.refuses(t, []string{"backup", own}, own, "directory of its own")
		if _, err := os.Lstat(filepath.Join(own, "sha256")); err == nil && own != f.cfg.Storage {
			t.Errorf("a backup was begun in %s", own)
		}
	}
	if out, err := f.command("backup", filepath.Join(f.root, "backup")).CombinedOutput(); err != nil {
		t.Errorf("a backup in a directory of its own within: %v\n%s", err, out)
	}
}

// TestDenied_namesTheLinkAndTheUser has a storage that is a link to a place where the
// store's owner may not go.
func TestDenied_namesTheLinkAndTheUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another")
	}
	f := newFaulty(t, "")
	f.become(t, 65534)
	f.start(t) // so that there is a database
	f.stop(t)
	closed := filepath.Join(filepath.Dir(f.root), "closed")
	must(t, os.Mkdir(closed, 0o700))
	must(t, os.Rename(f.cfg.Storage, filepath.Join(closed, "storage")))
	must(t, os.Symlink(closed+"/storage", f.cfg.Storage))
	says := func(as *syscall.Credential, want, not string) {
		t.Helper()
		for _, args := range [][]string{{"gc"}, {"user", "list"}, {"verify"}} {
			c := f.command(args...)
			c.SysProcAttr.Credential = as
			code, _, stderr := outcome(t, c)
			_, hint, _ := strings.Cut(stderr, "hint: ")
			if code != 1 || !strings.Contains(hint, want) || strings.Contains(hint, not) {
				t.Errorf("%v: exit code %d\n%s", args, code, stderr)
			}
		}
	}
	says(f.as, f.cfg.Storage+" is a link to "+closed+"/storage; run the command as root", "65534")
	must(t, os.Remove(f.cfg.Storage))
	must(t, os.Rename(filepath.Join(closed, "storage"), f.cfg.Storage))
	must(t, os.Chmod(f.cfg.Storage, 0))
	says(nil, "the command acts as user 65534, whose store it is", "run the command as root")
}

// TestServe_belowADirectoryToPassThrough has a quayRoot of root's that its service may
// pass through and not read.
func TestServe_belowADirectoryToPassThrough(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another")
	}
	f := newFaulty(t, "")
	f.become(t, 65534)
	must(t, os.Chown(f.root, 0, 0))
	must(t, os.Chmod(f.root, 0o711))
	f.start(t)
	f.stop(t)
	for _, args := range [][]string{{"gc"}, {"verify"}, {"user", "list"}} {
		if code, _, stderr := outcome(t, f.command(args...)); code != 0 {
			t.Errorf("%v: exit code %d\n%s", args, code, stderr)
		}
	}
}

// TestRelativeQuayRoot is what people who come from mirror-registry type.
func TestRelativeQuayRoot(t *testing.T) {
	program, err := exec.LookPath("appliance")
	must(t, err)
	dir := t.TempDir()
	in := func(args ...string) (int, string) {
		c := exec.Command(program, args...)
		c.Dir, c.Env = dir, append(os.Environ(), "HOME="+dir)
		code, stdout, stderr := outcome(t, c)
		return code, stdout + stderr
	}
	if code, said := in("prepare", "--quayHostname", "localhost:8443", "--quayRoot", "quay"); code != 0 {
		t.Fatal(said)
	}
	if _, said := in("install", "--dry-run", "--quayHostname", "localhost:8443", "--quayRoot", "./quay", "--quayStorage", "storage", "--sqliteStorage", "database"); strings.Contains(said, "absolute") || !strings.Contains(said, dir+"/storage") || !strings.Contains(said, dir+"/database") {
		t.Errorf("install says\n%s", said)
	}
	code, said := in("uninstall", "--autoApprove", "--quayRoot", "quay")
	if _, err := os.Lstat(filepath.Join(dir, "quay/quay-config")); code != 0 || err == nil || !strings.Contains(said, "the appliance in "+dir+"/quay has been removed") {
		t.Errorf("uninstall: exit code %d, %v\n%s", code, err, said)
	}
}
