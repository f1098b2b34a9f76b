package installer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/installer/adopt"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
)

// box is a host in a temporary directory, with a systemd that remembers what it was told.
type box struct {
	t    *testing.T
	root string
	sm   *fakeSystemd
	deps Deps
	user bool

	firewall *fakeFirewalld // nil: none
	selinux  *fakeSELinux   // nil: none
	ran      func(name string, args ...string)
}

func newBox(t *testing.T, user bool) *box {
	t.Helper()
	b := &box{t: t, root: t.TempDir(), user: user}
	b.sm = &fakeSystemd{box: b, active: make(map[string]bool), version: 252}
	b.write("etc/passwd", b.passwd(""))
	b.write("run/systemd/system/x", "")
	b.write("root/.bashrc", "")
	b.write("home/alice/.bashrc", "")
	b.write("etc/systemd/system/other.service", "")
	b.write("usr/local/bin/other", "")
	b.write("program", "#!/bin/sh\n")
	b.chmod(".", 0o755)
	b.chmod("program", 0o755)
	b.chmod("root", 0o700)
	b.deps = Deps{
		Host:     host.Under(b.root, b.run),
		Connect:  func(context.Context, bool) (serviceManager, error) { return b.sm, nil },
		Resolver: resolverFunc(func(string) ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil }),
		Health:   b.health,
		Seed:     b.seed,
		Foresee: func(context.Context, Installation) (seeding, error) {
			return seeding{}, errors.New("it does not answer")
		},
		Login:   func(context.Context, *config.Config, string) (bool, error) { return true, nil },
		Home:    "/root",
		Geteuid: func() int { return 0 },
		Clock:   func() (time.Time, bool) { return time.Now(), true },
		Statfs:  roomy,
	}
	if user {
		b.deps.Home, b.deps.Geteuid = "/home/alice", func() int { return 1000 }
	}
	return b
}

// roomy is unix.Statfs, but there is space for all, whatever the host of the test has.
func roomy(path string, buf *unix.Statfs_t) error {
	err := unix.Statfs(path, buf)
	if err == nil {
		buf.Bavail, buf.Ffree = (1<<40)/uint64(buf.Bsize), buf.Files
	}
	return err
}

func (b *box) request() Request {
	return Request{Hostname: "registry.example.com", Binary: b.path("program"), User: b.user}
}

func (b *box) path(rel string) string { return filepath.Join(b.root, rel) }

func (b *box) write(path, content string) {
	b.t.Helper()
	if err := os.MkdirAll(filepath.Dir(b.path(path)), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(b.path(path), []byte(content), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) read(path string) string {
	b.t.Helper()
	content, err := os.ReadFile(b.path(path))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(content)
}

// edit replaces a word in the config.yaml of the default directory.
func (b *box) edit(old, with string) {
	b.t.Helper()
	path := config.Path(filepath.Join(b.deps.Home, "quay-install"))
	b.write(path, strings.Replace(b.read(path), old, with, 1))
}

func (b *box) chmod(path string, mode fs.FileMode) {
	b.t.Helper()
	if err := os.Chmod(b.path(path), mode); err != nil {
		b.t.Fatal(err)
	}
}

// passwd makes everyone the user that runs the test, so that giving files away needs no rights.
func (b *box) passwd(more string) string {
	return fmt.Sprintf("root:x:%d:%d::/root:/bin/sh\nalice:x:%[1]d:%[2]d::/home/alice:/bin/sh\n", os.Getuid(), os.Getgid()) + more
}

// run stands in for systemd-sysusers, userdel and others.
func (b *box) run(_ context.Context, name string, args ...string) ([]byte, error) {
	if b.ran != nil {
		b.ran(name, args...)
	}
	switch name {
	case "restorecon", "chcon", "semanage":
		return nil, b.selinux.run(name, args)
	case "firewall-cmd", "firewall-offline-cmd":
		return b.firewall.run(name, args)
	case "systemd-sysusers":
		b.write("etc/passwd", b.passwd(fmt.Sprintf("appliance:x:%d:%d::/:/sbin/nologin\n", os.Getuid(), os.Getgid())))
	case "userdel":
		b.write("etc/passwd", b.passwd(""))
	case "journalctl":
		return []byte("the daemon said this\n"), nil
	}
	return nil, nil
}

func (b *box) health(context.Context, *config.Config) error {
	if !b.sm.active[systemd.Service] {
		return errors.New("connection refused")
	}
	return nil
}

// seed does what a daemon would have done by then: the store is there.
func (b *box) seed(_ context.Context, in Installation) (seeding, error) {
	if exists(b.path(in.Config.Database)) {
		return seeding{}, nil
	}
	b.write(in.Config.Database, "rows")
	b.write(filepath.Join(in.Config.Storage, "sha256/ab/abcd"), "blob")
	b.write(filepath.Join(in.Config.Storage, "uploads/u"), "")
	if in.Config.TLS.State != "" {
		b.write(filepath.Join(in.Config.TLS.State, "certificates/x"), "")
	}
	b.write(filepath.Join(in.QuayRoot, "quay-config/pull-secret.json"), "{}")
	b.chmod(filepath.Join(in.QuayRoot, "quay-config/pull-secret.json"), 0o600)
	return seeding{password: true, puller: true, first: true}, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (b *box) plan(r Request) *Plan {
	b.t.Helper()
	p, err := PlanInstall(b.t.Context(), r, b.deps)
	if err != nil {
		b.t.Fatalf("PlanInstall: %v", err)
	}
	return p
}

func (b *box) install() Result {
	b.t.Helper()
	result, err := b.plan(b.request()).Apply(b.t.Context(), nil)
	if err != nil {
		b.t.Fatalf("install: %v", err)
	}
	return result
}

func (b *box) uninstall(removeContent bool) Result {
	b.t.Helper()
	p, err := PlanUninstall(b.t.Context(), Request{User: b.user, RemoveContent: removeContent}, b.deps)
	if err != nil {
		b.t.Fatalf("PlanUninstall: %v", err)
	}
	result, err := p.Apply(b.t.Context(), nil)
	if err != nil {
		b.t.Fatalf("uninstall: %v", err)
	}
	return result
}

// snapshot is everything on the host: type, mode, and content or target.
func (b *box) snapshot() map[string]string {
	b.t.Helper()
	tree := make(map[string]string)
	err := filepath.WalkDir(b.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		what := fi.Mode().String()
		if fi.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += fmt.Sprintf(" %x", sha256.Sum256(content))
		}
		if fi.Mode()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			what += " -> " + target
		}
		tree[strings.TrimPrefix(path, b.root)] = what
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	for unit, on := range b.sm.active {
		if on {
			tree["active "+unit] = b.sm.runs[unit]
		}
	}
	tree["lingering"] = fmt.Sprint(b.sm.lingering)
	return tree
}

func same(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if maps.Equal(got, want) {
		return
	}
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if have, ok := got[path]; !ok || have != want[path] {
			t.Errorf("%s: %s is %q, want %q", what, path, got[path], want[path])
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[path]; !ok {
			t.Errorf("%s: %s was not there before", what, path)
		}
	}
}

// fakeSystemd does with its box's tree what systemd does: links for what is enabled.
type fakeSystemd struct {
	box       *box
	active    map[string]bool
	runs      map[string]string // the content of the program that a unit was started with
	lingering bool
	restarts  uint32
	ends      bool // the service ends whenever it was started
	retrying  bool // and systemd starts it again
	pid       uint32
	version   int
	firewalld bool // it is enabled

	polkitless bool // no user may change anything of logind
	calls      []string
	gate       []string // files that have what starts the service wait
	refuses    []string // calls after which connections are refused, or find a service without its content
}

func (f *fakeSystemd) did(verb string, units ...string) error {
	f.calls = append(f.calls, strings.Join(append([]string{verb}, units...), " "))
	return nil
}

func (f *fakeSystemd) unitDir() string { return f.box.deps.unitDir(f.box.user) }

// unitFile is the file of a unit, or the one that it is made from.
func (f *fakeSystemd) unitFile(unit string) string {
	if unit == quadletService {
		return adopt.QuadletFile(f.unitDir())
	}
	return filepath.Join(f.unitDir(), unit)
}

func (f *fakeSystemd) links() []string {
	return []string{
		filepath.Join(f.unitDir(), "quay-app.service"),
		filepath.Join(f.unitDir(), "default.target.wants", systemd.Service),
	}
}

func (f *fakeSystemd) Reload(context.Context) error { return f.did("reload") }

func (f *fakeSystemd) Enable(_ context.Context, units ...string) (bool, error) {
	changed := false
	if !slices.Contains(units, systemd.Service) {
		return true, f.did("enable", units...)
	}
	for _, l := range f.links() {
		if exists(f.box.path(l)) {
			continue
		}
		changed = true
		if err := os.MkdirAll(filepath.Dir(f.box.path(l)), 0o755); err != nil {
			return changed, err
		}
		if err := os.Symlink(filepath.Join(f.unitDir(), systemd.Service), f.box.path(l)); err != nil {
			return changed, err
		}
	}
	return changed, f.did("enable", units...)
}

func (f *fakeSystemd) Disable(_ context.Context, units ...string) (bool, error) {
	changed := false
	if !slices.Contains(units, systemd.Service) {
		return true, f.did("disable", units...)
	}
	for _, l := range f.links() {
		if err := os.Remove(f.box.path(l)); err == nil {
			changed = true
		}
	}
	if err := os.Remove(f.box.path(filepath.Join(f.unitDir(), "default.target.wants"))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return changed, err
	}
	return changed, f.did("disable", units...)
}

func (f *fakeSystemd) Start(_ context.Context, units ...string) error {
	if err := f.did("start", units...); err != nil {
		return err
	}
	for _, u := range units {
		if !exists(f.box.path(f.unitFile(u))) {
			return fmt.Errorf("unit %s not found", u)
		}
		if f.ends && u == systemd.Service {
			f.retrying = true
			return errors.New("it ends again and again")
		}
		f.active[u] = true
		if f.runs == nil {
			f.runs = make(map[string]string)
		}
		content, err := os.ReadFile(f.box.path(f.box.deps.binary(f.box.user)))
		if strings.HasPrefix(u, "quay") || u == systemd.Socket {
			content, err = nil, nil
		}
		if err != nil {
			return err
		}
		f.runs[u] = string(content)
	}
	return nil
}

func (f *fakeSystemd) Restart(ctx context.Context, units ...string) error {
	return f.Start(ctx, units...)
}

func (f *fakeSystemd) Queue(ctx context.Context, units ...string) error {
	_ = f.Start(ctx, units...)
	return nil
}

func (f *fakeSystemd) Stop(_ context.Context, units ...string) error {
	for _, file := range f.gate {
		if slices.Contains(units, systemd.Socket) || !exists(f.box.path(file)) {
			f.refuses = append(f.refuses, fmt.Sprintf("stop %v without %s", units, file))
		}
	}
	for _, u := range units {
		f.retrying = f.retrying && u != systemd.Service
		delete(f.active, u)
	}
	return f.did("stop", units...)
}

func (f *fakeSystemd) ResetFailed(context.Context, ...string) error { return nil }

func (f *fakeSystemd) Status(_ context.Context, unit string) (systemd.Status, error) {
	s := systemd.Status{LoadState: "not-found", ActiveState: "inactive", NRestarts: f.restarts, MainPID: f.pid}
	if exists(f.box.path(f.unitFile(unit))) {
		s.LoadState = "loaded"
	}
	switch {
	case f.retrying && unit == systemd.Service:
		s.ActiveState = "activating"
	case f.active[unit]:
		s.ActiveState = "active"
	}
	if exists(f.box.path(f.links()[1])) && unit != firewalldUnit || unit == firewalldUnit && f.firewalld {
		s.UnitFileState = "enabled"
	}
	return s, nil
}

func (f *fakeSystemd) Version() (int, error) { return f.version, nil }

func (f *fakeSystemd) Linger(context.Context, int) (bool, error) { return f.lingering, nil }

func (f *fakeSystemd) SetLinger(_ context.Context, _ int, on bool) error {
	f.lingering = on
	return f.did("linger")
}

func (f *fakeSystemd) MayLinger(context.Context) (bool, error) { return !f.polkitless, nil }

func (f *fakeSystemd) Close() {}

type resolverFunc func(name string) ([]netip.Addr, error)

func (r resolverFunc) LookupNetIP(_ context.Context, _, name string) ([]netip.Addr, error) {
	return r(name)
}

func notFound(name string) error {
	return &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}
