package main_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mirror-appliance/appliance/registry/config"
)

// neighbour is a user of the host who has nothing to do with the registry.
const neighbour = 64998

// newNeighboured is a registry that a user without privileges has, in a place that
// another user may look into.
func newNeighboured(t *testing.T) *attacked {
	t.Helper()
	a := newAttacked(t)
	must(t, filepath.WalkDir(a.own, func(path string, _ os.DirEntry, err error) error {
		must(t, err)
		return os.Lchown(path, attacker, attacker)
	}))
	return a
}

// by runs a command as a user and gives what it said.
func by(id int, c *exec.Cmd) (string, error) {
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(id), Gid: uint32(id)}}
	c.Env = append(os.Environ(), "HOME=/nowhere", "XDG_RUNTIME_DIR=")
	c.Dir = "/"
	if c.Stdin == nil {
		c.Stdin = strings.NewReader("password1\n")
	}
	out, err := c.CombinedOutput()
	return string(out), err
}

// TestUser_neighbourSeesNoSecrets looks at everything that prepare and a daemon have
// made, as another user.
func TestUser_neighbourSeesNoSecrets(t *testing.T) {
	t.Parallel()
	a := newNeighboured(t)
	must(t, os.Chmod(a.root, 0o755)) // as a user's directory may be
	a.start(t)
	out, _ := by(neighbour, exec.Command("find", a.root, "-type", "f", "-readable"))
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		path, _ := strings.CutPrefix(line, a.root+"/")
		if strings.HasPrefix(line, "find: ") && strings.HasSuffix(line, "Permission denied") || slices.Contains([]string{".pem", ".crt", ".0"}, filepath.Ext(path)) && path != "quay-rootCA/rootCA-key.pem" && filepath.Dir(path) == "quay-rootCA" {
			continue // which /ca.crt tells to all
		}
		t.Errorf("another user of the host may read: %s", line)
	}
	if out, err := by(neighbour, exec.Command("find", a.root, "-writable", "-not", "-type", "l")); err == nil && strings.TrimSpace(out) != "" {
		t.Errorf("another user may write:\n%s", out)
	}
	if out, err := by(neighbour, exec.Command("curl", "-sS", "--unix-socket", a.cfg.ControlSocket, "http://x/api/v1/status")); err == nil {
		t.Errorf("the control socket answers another user:\n%s", out)
	}
	a.stop(t)
	before := a.tree(t)
	for name, args := range a.commands(t) {
		if name == "backup" || name == "backup to tar" || name == "restore" {
			args[1] = filepath.Join(t.TempDir(), "backup")
		}
		c := a.command(args...)
		if said, err := by(neighbour, c); err == nil {
			t.Errorf("%s is done for another user:\n%s", name, said)
		}
	}
	if now := a.tree(t); now != before {
		t.Errorf("the registry was\n%s\nand is\n%s", before, now)
	}
}

// tree is the names, modes, owners and times of what the registry has.
func (a *attacked) tree(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("find", a.root, "-printf", "%p %M %U:%G %s %T@\n").CombinedOutput()
	must(t, err)
	return string(out)
}

// TestUser_neighbourLaysTraps has another user be first in a directory that everybody
// may write to, as /tmp is.
func TestUser_neighbourLaysTraps(t *testing.T) {
	t.Parallel()
	a := newNeighboured(t)
	shared := filepath.Join(filepath.Dir(a.root), "shared")
	must(t, os.Mkdir(shared, 0o777))
	must(t, os.Chmod(shared, 0o777|os.ModeSticky))
	in := func(name string) string { return filepath.Join(shared, name) }
	file := filepath.Join(a.own, "file")
	text, err := os.ReadFile(config.Path(a.root))
	must(t, err)
	for _, script := range []string{
		"umask 0; mkdir backup && ln -s " + file + " backup/appliance.db && ln -s " + a.own + "/sha256 backup/sha256",
		"ln -s " + a.own + "/empty link",
		"ln -s " + file + " link.tar",
		"umask 0; mkdir -p prepared/quay-config && ln -s " + a.own + " prepared/quay-rootCA && ln -s " + a.own + "/ssl.key prepared/quay-config/ssl.key",
		"umask 0; mkdir served && cat >served/config.yaml",
	} {
		c := exec.Command("sh", "-c", "cd "+shared+" && "+script)
		c.Stdin = bytes.NewReader(text)
		out, err := by(neighbour, c)
		if err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	before := a.ofRoot(t)
	for name, args := range map[string][]string{
		"a backup into another's directory":     {"backup", in("backup"), "--quayRoot", a.root},
		"a backup through another's link":       {"backup", in("link/backup"), "--quayRoot", a.root},
		"a backup onto another's link":          {"backup", in("link.tar"), "--quayRoot", a.root},
		"prepare in another's directory":        {"prepare", "--quayHostname", "localhost:8443", "--quayRoot", in("prepared")},
		"serve with another's configuration":    {"serve", "--config", in("served/config.yaml")},
		"gc with another's configuration":       {"gc", "--config", in("served/config.yaml")},
		"user add with another's configuration": {"user", "add", "x", "--role", "admin", "--password-stdin", "--config", in("served/config.yaml")},
	} {
		t.Run(name, func(t *testing.T) {
			said, err := by(attacker, exec.Command(a.program, args...))
			a.unharmed(t, before, said)
			if err == nil {
				t.Errorf("it is done:\n%s", said)
			}
		})
	}
	out, _ := by(neighbour, exec.Command("find", shared, "-user", "64999", "-readable", "-type", "f"))
	if strings.TrimSpace(out) != "" {
		t.Errorf("the other user may read:\n%s", out)
	}
}
