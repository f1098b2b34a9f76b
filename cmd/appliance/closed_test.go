package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestClosedOutput has the reader of a command's output go away before it has said anything, as "|
// head -1" does: what it was told to do is done whole.
func TestClosedOutput(t *testing.T) {
	unread := func(c *exec.Cmd) {
		t.Helper()
		r, w, err := os.Pipe()
		must(t, err)
		must(t, r.Close())
		defer w.Close()
		c.Stdout, c.Stderr = w, w
		c.Stdin = strings.NewReader(faultPassword + "\n")
		if err := c.Run(); err != nil {
			t.Errorf("%v ends with %v", c.Args[1:], err)
		}
	}
	f := newFaulty(t, "")
	fresh := filepath.Join(t.TempDir(), "fresh")
	prepare := func() *exec.Cmd {
		return exec.Command(f.program, "prepare", "--quayHostname", "localhost:8443", "--quayRoot", fresh)
	}
	unread(prepare())
	if out, err := prepare().CombinedOutput(); err != nil || !strings.Contains(string(out), "nothing had to be changed") {
		t.Errorf("prepare had left a part undone: %v\n%s", err, out)
	}
	images := f.fill(t, 2)
	if f.process != nil {
		f.stop(t)
	}
	unread(f.command("user", "add", "init", "--role", "admin", "--password-stdin"))
	to := filepath.Join(t.TempDir(), "backup")
	for _, args := range [][]string{{"user", "list"}, {"user", "list", "-o", "json"}, {"gc"}, {"gc", "-o", "json"}, {"verify", "--content"}, {"scrub"}, {"backup", to}, {"backup", to + ".tar"}} {
		unread(f.command(args...))
	}
	code, stdout, stderr := outcome(t, f.command("user", "list"))
	if code != 0 || !strings.Contains(stdout, "init") {
		t.Errorf("user list says\n%s%s", stdout, stderr)
	}
	must(t, os.Rename(f.cfg.Database, f.cfg.Database+".away"))
	must(t, os.RemoveAll(filepath.Join(f.cfg.Storage, "sha256")))
	unread(f.command("restore", to))
	f.start(t)
	for _, m := range images {
		if whole, err := f.pull(t.Context(), m); err != nil || !whole {
			t.Errorf("after the restore: %t, %v", whole, err)
		}
	}
	f.stop(t)
}
