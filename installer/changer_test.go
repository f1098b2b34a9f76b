package installer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/registry/config"
)

// service is the uid of the service's user where it is not the one that runs the test.
const service = 64999

const quayRoot = "/root/quay-install"

// newTwoUsers is a host whose service has a user of its own.
func newTwoUsers(t *testing.T) *box {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can play two users")
	}
	b := newBox(t, false)
	b.deps.Host = host.Under(b.root, func(ctx context.Context, name string, args ...string) ([]byte, error) {
		out, err := b.run(ctx, name, args...)
		if name == "systemd-sysusers" {
			b.write("etc/passwd", b.passwd(fmt.Sprintf("appliance:x:%d:%[1]d::/:/sbin/nologin\n", service)))
		}
		return out, err
	})
	return b
}

// give makes paths the service's, with all that they hold.
func (b *box) give(paths ...string) {
	b.t.Helper()
	for _, path := range paths {
		err := filepath.WalkDir(b.path(path), func(name string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(name, service, service))
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

// legacy makes of an install one as earlier versions made it: configuration, record and
// certificates are the service's.
func (b *box) legacy() {
	b.t.Helper()
	for _, name := range []string{"ssl.cert", "ssl.key"} {
		if err := os.Rename(b.path(quayRoot+"/tls-state/"+name), b.path(quayRoot+"/quay-config/"+name)); err != nil {
			b.t.Fatal(err)
		}
	}
	b.recordVersion1("databaseFile", "owner", "createdFiles")
	b.chmod(quayRoot+"/quay-config/pull-secret.json", 0o600)
	b.give(quayRoot+"/quay-config", quayRoot+"/quay-rootCA/rootCA.pem")
}

// owners are the owners and modes of all that is on the host.
func (b *box) owners() map[string]string {
	b.t.Helper()
	all := b.snapshot()
	for path, what := range all {
		if info, err := os.Lstat(b.path(path)); err == nil {
			stat := info.Sys().(*syscall.Stat_t)
			all[path] = fmt.Sprintf("%d:%d %s", stat.Uid, stat.Gid, what)
		}
	}
	return all
}

func TestInstall_ConfigurationAndRecordAreRoots(t *testing.T) {
	b := newTwoUsers(t)
	b.install()
	check := func(when string) {
		t.Helper()
		all := b.owners()
		for path, want := range map[string]string{
			"": "0:0 drwxr-xr-x", "quay-config": "0:64999 drwxr-x---", "quay-config/config.yaml": "0:64999 -rw-r-----",
			"quay-config/install.json": "0:0 -rw-------", "quay-config/ssl.cert": "0:0 Lrwxrwxrwx", "quay-config/ssl.key": "0:0 Lrwxrwxrwx",
			"quay-rootCA": "0:0 drwxr-xr-x", "quay-rootCA/rootCA.pem": "0:0 -rw-r--r--", "quay-rootCA/rootCA.crt": "0:0 -rw-r--r--",
			"quay-rootCA/rootCA-key.pem": "64999:64999 -rw-------", "tls-state": "64999:64999 drwx------",
			"tls-state/ssl.key": "64999:64999 -rw-------", "quay-storage": "64999:64999 drwxr-x---", "sqlite-storage": "64999:64999 drwx------",
		} {
			if got := all[filepath.Join(quayRoot, path)]; !strings.HasPrefix(got, want) {
				t.Errorf("%s, %s is %q, want %q", when, path, got, want)
			}
		}
	}
	check("after an install")
	b.chmod(quayRoot+"/quay-config/pull-secret.json", 0o600)
	b.legacy()
	var held []*os.File // by the service
	for _, path := range []string{config.Path(quayRoot), quayRoot + "/quay-rootCA/rootCA.pem"} {
		f, err := os.OpenFile(b.path(path), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		held = append(held, f)
	}
	if !b.install().Changed {
		t.Error("nothing was changed")
	}
	check("after the next install")
	if got := b.owners()[quayRoot+"/quay-config/pull-secret.json"]; !strings.HasPrefix(got, "0:0 -rw-------") {
		t.Errorf("the pull secret is %s", got)
	}
	for _, f := range held {
		if _, err := f.WriteString("storage: /etc\n"); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(f.Name()); err != nil || strings.Contains(string(text), "storage: /etc") {
			t.Errorf("what the service had open is %s still, %v", f.Name(), err)
		}
	}
	if b.install().Changed {
		t.Error("the install after that changes something")
	}
}

func TestInstall_LegacyIsAsItWasAfterAFailure(t *testing.T) {
	b := newTwoUsers(t)
	b.install()
	b.legacy()
	before := b.owners()
	for i := range b.plan(b.request()).steps {
		p := b.plan(b.request())
		name := p.steps[i].String()
		p.steps[i] = failing{p.steps[i]}
		if _, err := p.Apply(t.Context(), nil); err == nil {
			t.Fatal("no error")
		}
		same(t, fmt.Sprintf("failed at step %d (%s)", i, name), b.owners(), before)
	}
}

// TestLegacy_actsOnWhatTheUnitNames has the service's user write each key that names
// a path, and a record.
func TestLegacy_actsOnWhatTheUnitNames(t *testing.T) {
	for name, edit := range map[string][2]string{
		"storage":       {"storage: " + quayRoot + "/quay-storage", "storage: /var/lib/etcd"},
		"all storage":   {"storage: " + quayRoot + "/quay-storage", "storage: " + quayRoot},
		"configuration": {"storage: " + quayRoot + "/quay-storage", "storage: " + quayRoot + "/quay-config"},
		"a link":        {"storage: " + quayRoot + "/quay-storage", "storage: " + quayRoot + "/run/evil"},
		"database":      {"database: " + quayRoot + "/sqlite-storage/appliance.db", "database: /var/lib/etcd/x.db"},
		"by a link":     {"database: " + quayRoot + "/sqlite-storage/appliance.db", "database: " + quayRoot + "/run/evil/x.db"},
		"controlSocket": {"controlSocket: " + quayRoot + "/run", "controlSocket: /var/lib/etcd"},
		"tls.state":     {"state: " + quayRoot + "/tls-state", "state: /var/lib/etcd"},
		"tls.key":       {"key: " + quayRoot + "/quay-config/ssl.key", "key: /var/lib/etcd/x.db"},
		"tls.cert":      {"certificate: " + quayRoot + "/quay-config/ssl.cert", "certificate: /var/lib/etcd/x.db"},
		"tls.ca":        {"ca: " + quayRoot + "/quay-rootCA/rootCA.pem", "ca: /etc/anchors/evil.pem"},
		"tls.caKey":     {"caKey: " + quayRoot + "/quay-rootCA/rootCA-key.pem", "caKey: /var/lib/etcd/x.db"},
		"nothing":       {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newTwoUsers(t)
			b.install()
			for _, f := range []string{"x.db", "x.db-wal", "sha256/ab/abcd", "certificates/x", "config.yaml"} {
				b.write("var/lib/etcd/"+f, "root's")
			}
			b.legacy()
			if err := os.Symlink("/var/lib/etcd", b.path(quayRoot+"/run/evil")); err != nil {
				t.Fatal(err)
			}
			b.edit(edit[0], edit[1])
			b.write(recordPath(quayRoot), `{"version":1,"createdDirectories":["/var/lib/etcd","/var/lib/empty"],"createdUser":true,"binary":"/usr/local/bin/other","storage":"/var/lib/etcd","database":"/var/lib/etcd"}`)
			if err := os.MkdirAll(b.path("var/lib/empty"), 0o755); err != nil {
				t.Fatal(err)
			}
			b.give(quayRoot + "/quay-config")
			before := b.ofRoot()
			if p, err := PlanInstall(t.Context(), b.request(), b.deps); err == nil {
				_, err = p.Apply(t.Context(), nil)
				same(t, fmt.Sprintf("after an install (%v)", err), b.ofRoot(), before)
			}
			p, err := PlanUninstall(t.Context(), Request{RemoveContent: true}, b.deps)
			if err != nil {
				t.Fatal(err)
			}
			if plan := strings.Join(p.Describe(), "\n"); strings.Contains(plan, "/var/lib/") || strings.Contains(plan, "evil") {
				t.Errorf("the plan of an uninstall:\n%s", plan)
			}
			_, err = p.Apply(t.Context(), nil)
			same(t, fmt.Sprintf("after an uninstall (%v)", err), b.ofRoot(), before)
		})
	}
}

// ofRoot is what lies outside of the install, and is root's.
func (b *box) ofRoot() map[string]string {
	all := b.owners()
	maps.DeleteFunc(all, func(path, _ string) bool {
		return !strings.HasPrefix(path, "/var/lib") && !strings.HasPrefix(path, "/etc/anchors") && path != "/usr/local/bin/other"
	})
	return all
}

func TestUninstall_LeavesNothingOfAMigratedInstall(t *testing.T) {
	for _, migrated := range []bool{true, false} {
		b := newTwoUsers(t)
		before := b.snapshot()
		b.install()
		b.legacy()
		if migrated {
			b.install()
		}
		b.uninstall(true)
		same(t, fmt.Sprintf("migrated %v, after the uninstall", migrated), b.snapshot(), before)
	}
}

// A configuration of root's that was edited after the install: an uninstall acts on the record.
func TestUninstall_ActsOnTheRecord(t *testing.T) {
	b := newTwoUsers(t)
	b.install()
	b.write("var/lib/etcd/x.db", "root's")
	b.edit("database: "+quayRoot+"/sqlite-storage/appliance.db", "database: /var/lib/etcd/x.db")
	p, err := PlanUninstall(t.Context(), Request{RemoveContent: true}, b.deps)
	if err != nil {
		t.Fatal(err)
	}
	if plan := strings.Join(p.Describe(), "\n"); strings.Contains(plan, "etcd") || !strings.Contains(plan, "sqlite-storage/appliance.db") {
		t.Errorf("the plan:\n%s", plan)
	}
	if !slices.ContainsFunc(p.Warnings, func(p Problem) bool { return strings.Contains(p.What, "/var/lib/etcd/x.db stays") }) {
		t.Errorf("the warnings: %v", p.Warnings)
	}
}

// A certificate of the user's own, where the daemon would have its own, is not to be
// given away or removed.
func TestInstall_LeavesCertificatesOfOthers(t *testing.T) {
	b := newTwoUsers(t)
	b.install()
	other := newBox(t, false)
	other.install()
	for _, name := range []string{"ssl.cert", "ssl.key"} {
		b.write("etc/pki/"+name, other.read(quayRoot+"/tls-state/"+name))
		b.edit(": "+quayRoot+"/quay-config/"+name, ": /etc/pki/"+name)
	}
	before := b.owners()
	p := b.plan(b.request())
	if !slices.ContainsFunc(p.Warnings, func(p Problem) bool { return strings.Contains(p.What, "has not signed /etc/pki/ssl.cert") }) {
		t.Errorf("the warnings: %v", p.Warnings)
	}
	if _, err := p.Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	b.uninstall(true)
	after := b.owners()
	for _, path := range []string{"/etc/pki/ssl.cert", "/etc/pki/ssl.key"} {
		if after[path] != before[path] {
			t.Errorf("%s was %s and is %s", path, before[path], after[path])
		}
	}
}

// The same in the place where the daemon has its own, instead of the links there.
func TestInstall_LeavesCertificatesOfOthers_inThePlaceOfOurs(t *testing.T) {
	b := newTwoUsers(t)
	b.install()
	other := newBox(t, false)
	other.install()
	names := []string{"ssl.cert", "ssl.key"}
	for _, name := range names {
		if err := os.Remove(b.path(quayRoot + "/quay-config/" + name)); err != nil {
			t.Fatal(err)
		}
		b.write(quayRoot+"/quay-config/"+name, other.read(quayRoot+"/tls-state/"+name))
	}
	before := b.owners()
	b.install()
	after := b.owners()
	for _, dir := range []string{"/quay-config/", "/tls-state/"} {
		for _, name := range names {
			if path := quayRoot + dir + name; after[path] != before[path] {
				t.Errorf("%s was %s and is %s", path, before[path], after[path])
			}
		}
	}
}

// Without a unit nothing tells which of the paths are an install's.
func TestInstall_RefusesAConfigurationOfAnotherUser(t *testing.T) {
	b := newTwoUsers(t)
	b.install()
	b.uninstall(false)
	b.write(config.Path(quayRoot), "hostname: registry.example.com\nstorage: /var/lib/etcd\ndatabase: /var/lib/etcd/x.db\ncontrolSocket: /run/x/y\n")
	b.give(quayRoot + "/quay-config")
	for name, plan := range map[string]func() error{
		"install":   func() error { _, err := PlanInstall(t.Context(), b.request(), b.deps); return err },
		"uninstall": func() error { _, err := PlanUninstall(t.Context(), Request{RemoveContent: true}, b.deps); return err },
		"prepare":   func() error { _, err := PlanPrepare(t.Context(), Request{QuayRoot: quayRoot}, b.deps); return err },
	} {
		if err := plan(); !errors.As(err, new(*PreflightError)) || !strings.Contains(err.Error(), "user 64999 can change") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Directories that existed get the owner and the mode back that they had before the first install.
func TestUninstall_GivesDirectoriesBack(t *testing.T) {
	for name, again := range map[string]bool{"one install": false, "killed before the mode was set": true} {
		t.Run(name, func(t *testing.T) {
			b := newTwoUsers(t)
			const tester = 64998
			for dir, mode := range map[string]fs.FileMode{
				"opt/st": 0o775 | fs.ModeSetgid, "opt/db": 0o777 | fs.ModeSticky, "opt/real/lost+found": 0o700,
			} {
				b.write(dir+"/x", "")
				if err := errors.Join(os.Remove(b.path(dir+"/x")), os.Lchown(b.path(dir), tester, tester),
					os.Chmod(b.path(dir), mode)); err != nil {
					t.Fatal(err)
				}
			}
			b.link("/opt/real", "lnk/st")
			for _, storage := range []string{"/opt/st", "/lnk/st"} {
				before := b.owners()
				r := b.request()
				r.QuayStorage, r.SqliteStorage = storage, "/opt/db"
				if p := b.plan(r); again {
					b.kill(p, slices.IndexFunc(p.steps, func(s host.Step) bool {
						dir, ok := s.(*host.Dir)
						return ok && dir.Path == "/opt/db"
					}))
				}
				if _, err := b.plan(r).Apply(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				b.uninstall(true)
				same(t, storage+": after the uninstall", b.owners(), before)
			}
		})
	}
}
