package main_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mirror-appliance/appliance/registry/config"
)

// attacker is the service's user, taken over: it may write all that the service may, and waits
// for root's next command.
const attacker = 64999

// secret is what a file of root's holds that no other user may read.
const secret = "a secret of root's\n"

// attacked is an appliance whose service has been taken over, and beside it a directory of root's.
type attacked struct {
	*faulty
	own string // root's
}

func newAttacked(t *testing.T) *attacked {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can play two users")
	}
	f := newFaulty(t, "")
	f.fill(t, 1)
	f.become(t, attacker)
	a := &attacked{faulty: f, own: filepath.Join(filepath.Dir(f.root), "of-root")}
	must(t, os.Mkdir(a.own, 0o755))
	for _, name := range []string{"file", "appliance.db", "ssl.key"} {
		must(t, os.WriteFile(filepath.Join(a.own, name), []byte(secret), 0o600))
	}
	for _, name := range []string{"sha256", "uploads", "empty"} {
		must(t, os.Mkdir(filepath.Join(a.own, name), 0o755))
	}
	return a
}

// commands are those of root's that act on an appliance. mirror is not one: it speaks to a
// registry as anybody may.
func (a *attacked) commands(t *testing.T) map[string][]string {
	elsewhere := t.TempDir()
	return map[string][]string{
		"user list":     {"user", "list"},
		"user add":      {"user", "add", "x", "--role", "pull", "--password-stdin"},
		"user passwd":   {"user", "passwd", "x", "--password-stdin"},
		"user grant":    {"user", "grant", "x", "--repository", "a/*"},
		"user remove":   {"user", "remove", "x"},
		"control":       {"control"}, // until standard input ends
		"serve":         {"serve"},   // until it is stopped, see asRoot
		"gc":            {"gc", "--grace-period", "0s"},
		"verify":        {"verify", "--content"},
		"scrub":         {"scrub"},
		"status":        {"status"},
		"backup":        {"backup", filepath.Join(elsewhere, "backup")},
		"backup to tar": {"backup", filepath.Join(elsewhere, "backup.tar")},
		"restore":       {"restore", filepath.Join(elsewhere, "backup")},
		"prepare":       {"prepare"},
		"uninstall":     {"uninstall", "--autoApprove"},
	}
}

// each gives every command, the one that removes the appliance as the last, and then
// brings back what there was.
func (a *attacked) each(t *testing.T, f func(name string, args []string)) {
	t.Helper()
	kept := a.root + ".kept"
	out, err := exec.Command("cp", "-a", a.root, kept).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	all := a.commands(t)
	for name, args := range all {
		if name != "uninstall" {
			f(name, args)
		}
	}
	f("uninstall", all["uninstall"])
	must(t, os.RemoveAll(a.root))
	must(t, os.Rename(kept, a.root))
}

// root runs a command as root and gives what it said.
func (a *attacked) asRoot(args ...string) string {
	c := a.command(args...)
	c.SysProcAttr = nil
	c.Stdin = strings.NewReader("password1\n")
	if args[0] == "serve" {
		return served(c)
	}
	out, _ := c.CombinedOutput() // it may well fail
	return string(out)
}

// served runs a daemon until it is ready, or has ended by itself.
func served(c *exec.Cmd) string {
	said := &said{}
	out, err := c.StderrPipe()
	if err != nil {
		return err.Error()
	}
	if err := c.Start(); err != nil {
		return err.Error()
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Fprintln(said, lines.Text())
		if strings.Contains(lines.Text(), "msg=ready") {
			_ = c.Process.Signal(syscall.SIGTERM)
		}
	}
	_ = c.Wait() // it may well fail
	return said.String()
}

// unharmed compares what is root's with what it was.
func (a *attacked) unharmed(t *testing.T, before, said string) {
	t.Helper()
	if now := a.ofRoot(t); now != before {
		t.Errorf("what is root's was\n%s\nand is\n%s\nthe command says\n%s", before, now, said)
	}
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(secret)))
	if strings.Contains(said, strings.TrimSpace(secret)) || strings.Contains(said, sum) {
		t.Errorf("it tells what only root may read:\n%s", said)
	}
}

// ofRoot is all that root has there: names, modes, owners, content.
func (a *attacked) ofRoot(t *testing.T) string {
	t.Helper()
	var all bytes.Buffer
	must(t, filepath.WalkDir(a.own, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&all, "%s %s %d:%d", path, info.Mode(), stat.Uid, stat.Gid)
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			fmt.Fprintf(&all, " %d %.60q %x %v", len(content), content, sha256.Sum256(content), err)
		}
		fmt.Fprintln(&all)
		return nil
	}))
	return all.String()
}

// configure has the attacker write a configuration.
func (a *attacked) configure(t *testing.T, change func(*config.Config)) {
	t.Helper()
	cfg := *a.cfg
	change(&cfg)
	text, err := cfg.Marshal()
	must(t, err)
	must(t, os.WriteFile(config.Path(a.root), text, 0o644))
	must(t, os.Chown(config.Path(a.root), attacker, attacker))
}

// TestRoot_keysOfTheServices tries each key of a configuration that the service can write against
// each command of root's.
func TestRoot_keysOfTheServices(t *testing.T) {
	t.Parallel()
	a := newAttacked(t)
	in := func(name string) string { return filepath.Join(a.own, name) }
	before := a.ofRoot(t)
	for key, change := range map[string]func(*config.Config){
		"none":             func(*config.Config) {},
		"storage":          func(c *config.Config) { c.Storage = a.own },
		"storage to be":    func(c *config.Config) { c.Storage = in("empty/new") },
		"database":         func(c *config.Config) { c.Database = in("appliance.db") },
		"database and all": func(c *config.Config) { c.Database, c.Storage = in("appliance.db"), a.own },
		"controlSocket":    func(c *config.Config) { c.ControlSocket = in("run/socket") },
		"tls.certificate":  func(c *config.Config) { c.TLS.Certificate = in("ssl.cert") },
		"tls.key":          func(c *config.Config) { c.TLS.Key = in("ssl.key") },
		"tls.ca":           func(c *config.Config) { c.TLS.CA = in("file") },
		"tls.caKey":        func(c *config.Config) { c.TLS.CAKey = in("file") },
		"tls.state":        func(c *config.Config) { c.TLS.State = in("empty") },
		"tls.ca to be":     func(c *config.Config) { c.TLS.CA, c.TLS.CAKey = in("made/ca"), in("made/key") },
		"upstream.authFile": func(c *config.Config) {
			c.Upstreams = []config.Upstream{{Prefix: "up", URL: "http://127.0.0.1:1", AuthFile: in("file"), CA: in("file")}}
		},
	} {
		a.configure(t, change)
		a.each(t, func(name string, args []string) {
			t.Run(key+"/"+name, func(t *testing.T) { a.unharmed(t, before, a.asRoot(args...)) })
		})
	}
	a.configure(t, func(*config.Config) {})
	if said := a.asRoot("serve"); !strings.Contains(said, "msg=ready") {
		t.Errorf("the commands had nothing to act on; serve says\n%s", said)
	}
}

// TestRoot_linksOfTheServices puts links in the place of each file and directory of the service's.
func TestRoot_linksOfTheServices(t *testing.T) {
	t.Parallel()
	a := newAttacked(t)
	a.configure(t, func(*config.Config) {})
	before := a.ofRoot(t)
	file, dir := filepath.Join(a.own, "file"), a.own
	d, _ := filepath.Glob(filepath.Join(a.cfg.Storage, "sha256/*/*"))
	for _, link := range []struct{ path, to string }{
		{a.cfg.Database, file}, {a.cfg.Database + ".lock", file}, {a.cfg.Database + ".reserve", file},
		{a.cfg.Database + ".lock", filepath.Join(dir, "nologin")}, {a.cfg.Database + ".reserve", filepath.Join(dir, "reserve")},
		{a.cfg.Database + "-wal", file}, {a.cfg.Database + "-shm", file}, {a.cfg.Database + "-journal", file},
		{a.cfg.Database + ".restore", dir}, {filepath.Dir(a.cfg.Database), dir},
		{a.cfg.Storage, dir}, {filepath.Join(a.cfg.Storage, "sha256"), filepath.Join(dir, "sha256")},
		{filepath.Join(a.cfg.Storage, "uploads"), filepath.Join(dir, "uploads")}, {filepath.Join(a.cfg.Storage, "quarantine"), dir},
		{d[0], file}, {filepath.Dir(d[0]), dir},
		{a.cfg.ControlSocket, filepath.Join(dir, "socket")}, {filepath.Dir(a.cfg.ControlSocket), dir},
		{a.cfg.TLS.Key, file}, {a.cfg.TLS.Certificate, file}, {a.cfg.TLS.State, dir},
		{filepath.Join(a.root, "quay-config/install.json"), file}, {filepath.Join(a.root, "quay-config/pull-secret.json"), file},
		{config.Path(a.root), file},
	} {
		aside := link.path + ".aside"
		if err := os.Rename(link.path, aside); err != nil {
			aside = ""
		}
		must(t, os.Symlink(link.to, link.path))
		must(t, os.Lchown(link.path, attacker, attacker))
		name, err := filepath.Rel(a.root, link.path)
		must(t, err)
		a.each(t, func(command string, args []string) {
			t.Run(name+" to "+filepath.Base(link.to)+"/"+command, func(t *testing.T) { a.unharmed(t, before, a.asRoot(args...)) })
		})
		must(t, os.RemoveAll(link.path))
		if aside != "" {
			must(t, os.Rename(aside, link.path))
		}
	}
}

// TestRoot_hardLinksOfTheServices is about hosts on which everybody may link files
// that are not theirs.
func TestRoot_hardLinksOfTheServices(t *testing.T) {
	t.Parallel()
	a := newAttacked(t)
	before := a.ofRoot(t)
	d, _ := filepath.Glob(filepath.Join(a.cfg.Storage, "sha256/*/*"))
	must(t, os.Remove(d[0]))
	must(t, os.Link(filepath.Join(a.own, "file"), d[0]))
	to := filepath.Join(t.TempDir(), "backup")
	a.unharmed(t, before, a.asRoot("backup", to))
	copied := filepath.Join(to, "sha256", filepath.Base(filepath.Dir(d[0])), filepath.Base(d[0]))
	if _, err := os.Lstat(copied); err == nil {
		t.Error("a file of root's is in the backup")
	}
}

// TestRoot_backupInADirectoryOfTheServices would have root make directories and files
// wherever the service likes.
func TestRoot_backupInADirectoryOfTheServices(t *testing.T) {
	t.Parallel()
	a := newAttacked(t)
	for _, to := range []string{a.cfg.Storage + "/../run/backup", filepath.Join(a.root, "run/backup.tar")} {
		if said := a.asRoot("backup", to); !strings.Contains(said, "is that user's") {
			t.Errorf("backup %s says\n%s", to, said)
		}
	}
}

// TestRoot_strangerOnTheSocket has a user answer who is not the registry's.
func TestRoot_strangerOnTheSocket(t *testing.T) {
	t.Parallel()
	a := newAttacked(t)
	l, err := net.Listen("unix", a.cfg.ControlSocket) // root's own, as another daemon's might be
	must(t, err)
	defer l.Close()
	for _, args := range [][]string{{"user", "list"}, {"status"}, {"gc"}} {
		if said := a.asRoot(args...); !strings.Contains(said, "runs as user 0, and the registry as user 64999") {
			t.Errorf("%v says\n%s", args, said)
		}
	}
}
