package installer

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/config"
)

// takenPort is what the kernel says when something listens on port 8443.
const takenPort = "  sl  local_address rem_address   st tx rx tr tm retr uid timeout inode\n" +
	"   0: 00000000:20FB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n"

// TestPreflight spoils one precondition after the other: each gives one problem, by name and
// with its remedy, and nothing is written.
func TestPreflight(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		user   bool
		spoil  func(b *box, r *Request)
		what   string // a part of the problem
		remedy string // a part of the remedy
	}{
		{"no systemd", false, func(b *box, r *Request) { os.RemoveAll(b.path("run/systemd")) }, "systemd is not running", "appliance serve"},
		{"no manager of the user", true, func(b *box, r *Request) {
			b.deps.Connect = func(context.Context, bool) (serviceManager, error) {
				return nil, hint.New(errors.New("no manager of this user"), "log in with ssh")
			}
		}, "no manager of this user", "log in with ssh"},
		{"no lingering", true, func(b *box, r *Request) { b.sm.polkitless = true }, "end when the user logs out", "sudo loginctl enable-linger 1000"},
		{"lingering that an administrator has enabled", true, func(b *box, r *Request) { b.sm.polkitless, b.sm.lingering = true, true }, "", ""},
		{"no rights", false, func(b *box, r *Request) { b.deps.Geteuid = func() int { return 1000 } }, "only be installed by root", "sudo"},
		{"no program", false, func(b *box, r *Request) { r.Binary = b.path("etc/passwd") }, "not an executable", "whole path"},
		{"an IP as hostname", false, func(b *box, r *Request) { r.Hostname = "192.0.2.1" }, "is an IP address", "--quayHostname"},
		{"an IPv6 address as hostname", false, func(b *box, r *Request) { r.Hostname = "[2001:db8::1]" }, "is an IP address", "--quayHostname"},
		{"something like an IP as hostname", false, func(b *box, r *Request) { r.Hostname = "192.0.2.256" }, "is not a DNS name", "--quayHostname"},
		{"an underscore in the hostname", false, func(b *box, r *Request) { r.Hostname = "my_host.example.com" }, "my_host.example.com", "--quayHostname"},
		{"a hyphen at the end of a label", false, func(b *box, r *Request) { r.Hostname = "host-.example.com" }, "is not a DNS name", "--quayHostname"},
		{"a label that is too long", false, func(b *box, r *Request) { r.Hostname = strings.Repeat("a", 64) + ".example.com" }, "is not a DNS name", "--quayHostname"},
		{"a hostname that does not resolve", false, func(b *box, r *Request) {
			b.deps.Resolver = resolverFunc(func(name string) ([]netip.Addr, error) { return nil, notFound(name) })
		}, "registry.example.com does not resolve: no such host", "registry.example.com' | sudo tee -a /etc/hosts"},
		{"a privileged port of a user", true, func(b *box, r *Request) { r.Port = 443 }, "port 443", "ip_unprivileged_port_start=443"},
		{"a port that is none", false, func(b *box, r *Request) { r.Port = 65536 }, "65536 is not a port", "8443"},
		{"a taken port", false, func(b *box, r *Request) {
			b.write("proc/net/tcp", takenPort)
		}, "port 8443 is in use by a process of user", "ss -ltnp"},
		{"a relative directory", false, func(b *box, r *Request) { r.QuayRoot = "quay" }, "--quayRoot quay is not an absolute path", "beginning with /"},
		{"a bucket", false, func(b *box, r *Request) { r.QuayStorage = "s3://images?endpoint=https://s3.example.com" }, "--quayStorage takes a directory, and s3://images?endpoint=https://s3.example.com is a bucket", "let `storage:` of config.yaml name the bucket"},
		{"a bucket in the configuration", false, func(b *box, r *Request) {
			b.install()
			b.edit("storage: /root/quay-install/quay-storage", "storage: s3://images?endpoint=https://s3.example.com")
		}, "", ""},
		{"a database in PostgreSQL", false, func(b *box, r *Request) {
			b.install()
			b.edit("\ndatabase: ", "\ndatabase: postgres://app@db.example.com/app #")
		}, "", ""},
		{"an upgrade with a database in PostgreSQL", false, func(b *box, r *Request) {
			b.install()
			b.edit("\ndatabase: ", "\ndatabase: postgres://app@db.example.com/app #")
			r.Upgrade = true
		}, "", ""},
		{"a database in PostgreSQL before the install", false, func(b *box, r *Request) {
			b.install()
			b.edit("\ndatabase: ", "\ndatabase: postgres://app@db.example.com/app #")
			for _, name := range []string{"etc/systemd/system/appliance.service", "root/quay-install/quay-config/install.json"} {
				if err := os.Remove(b.path(name)); err != nil {
					b.t.Fatal(err)
				}
			}
		}, "config.yaml names the database postgres://app@db.example.com/app, and the appliance is not installed yet", "appliance docs several"},
		{"a disk of images that is not mounted, and a database in PostgreSQL", false, func(b *box, r *Request) {
			b.install()
			b.edit("\ndatabase: ", "\ndatabase: postgres://app@db.example.com/app #")
			if err := os.RemoveAll(b.path("root/quay-install/quay-storage/sha256")); err != nil {
				b.t.Fatal(err)
			}
		}, "quay-storage has no sha256", "mount the file system that has it"},
		{"the root directory", false, func(b *box, r *Request) { r.QuayRoot = "/" }, "--quayRoot / cannot be used", "/quay-install"},
		{"a directory of the system", false, func(b *box, r *Request) { r.QuayRoot = "/etc/quay" }, "directory of the system", "quay-install"},
		{"a home directory itself", false, func(b *box, r *Request) { r.QuayRoot = "/home/alice" }, "--quayRoot /home/alice cannot be used: it is a home directory", "/home/alice/quay-install"},
		{"a directory that is emptied at boot", false, func(b *box, r *Request) { r.QuayRoot = "/tmp/quay" }, "/tmp", "lasting"},
		{"a directory that no unit can name", false, func(b *box, r *Request) { r.QuayRoot = "/opt/a\nb" }, "control character", "another directory"},
		{"a file where nothing of ours goes", false, func(b *box, r *Request) { b.write("opt", "") }, "", ""}, // no problem
		{"a file as directory", false, func(b *box, r *Request) { b.write("opt", ""); r.QuayRoot = "/opt/quay" }, "/opt is not a directory", "another directory"},
		{"a link to nothing", false, func(b *box, r *Request) {
			if err := os.Symlink("/nowhere", b.path("opt")); err != nil {
				b.t.Fatal(err)
			}
			r.QuayRoot = "/opt/quay"
		}, "symbolic link to nothing", "another directory"},
		{"a closed directory above", false, func(b *box, r *Request) {
			b.write("opt/x", "")
			b.chmod("opt", 0o700)
			b.write("etc/passwd", b.passwd("appliance:x:4242:4242::/:/sbin/nologin\n"))
			r.QuayRoot = "/opt/quay"
		}, "may not pass through /opt", "chmod o+x /opt"},
		{"an install directory that the service may not enter", false, func(b *box, r *Request) {
			b.write("root/quay-install/x", "")
			b.chmod("root/quay-install", 0o700)
			b.write("etc/passwd", b.passwd("appliance:x:4242:4242::/:/sbin/nologin\n"))
		}, "may not pass through /root/quay-install", "chmod o+x /root/quay-install"},
		{"a control socket among the system's", false, func(b *box, r *Request) {
			b.install()
			b.edit("/root/quay-install/run/appliance.sock", "/run/appliance.sock")
		}, "the control socket's directory /run cannot be used: it is a directory of the system", "such as /opt/quay-install"},
		{"certificates kept in a home directory", false, func(b *box, r *Request) {
			b.install()
			b.edit("/root/quay-install/tls-state", "/root")
		}, "the directory of tls.state /root cannot be used", "a directory of its own below it"},
		{"a control socket in a directory of others", false, func(b *box, r *Request) {
			b.install()
			b.edit("/root/quay-install/run/appliance.sock", "/srv/shared/appliance.sock")
			b.write("srv/shared/other.pid", "")
		}, "/srv/shared holds other things already (other.pid)", "empty directory"},
		{"other files beside the control socket", false, func(b *box, r *Request) { b.write("srv/quay/run/other.pid", ""); r.QuayRoot = "/srv/quay" },
			"/srv/quay/run holds other things already (other.pid)", "empty directory"},
		{"a short password", false, func(b *box, r *Request) { r.InitPassword = "short" }, "shorter than 8", "8 or more characters"},
		{"a bad user name", false, func(b *box, r *Request) { r.InitUser = "a b" }, `--initUser: user name "a b" contains ' '`, "use letters"},
		{"units of a mirror-registry", false, func(b *box, r *Request) { b.write("etc/systemd/system/quay-app.service", "[Unit]\n") },
			"a mirror-registry is installed on this host (/etc/systemd/system/quay-app.service)", "appliance install --adopt"},
		{"configuration of a mirror-registry", false, func(b *box, r *Request) {
			b.write("root/quay-install/quay-config/config.yaml", "SERVER_HOSTNAME: a\nDB_URI: x\n")
		}, "is the configuration of a mirror-registry", "appliance install --adopt"},
		{"database of a mirror-registry", false, func(b *box, r *Request) {
			b.write("srv/db/quay_sqlite.db", "")
			r.SqliteStorage = "/srv/db"
		}, "/srv/db holds other things already (quay_sqlite.db)", "appliance install --adopt"},
		{"blobs that no database knows", false, func(b *box, r *Request) {
			b.write("srv/blobs/sha256/ab/abcd", "")
			r.QuayStorage = "/srv/blobs"
		}, "/srv/blobs holds images, but there is no database", "--sqliteStorage"},
		{"other files where blobs go", false, func(b *box, r *Request) {
			b.write("srv/blobs/photos/cat", "")
			r.QuayStorage = "/srv/blobs"
		}, "/srv/blobs holds other things already (photos)", "empty directory"},
		{"storage in the database's directory", false, func(b *box, r *Request) { r.QuayStorage, r.SqliteStorage = "/srv/a/b", "/srv/a" }, "lie in each other", "side by side"},
		{"storage where the configuration lies", false, func(b *box, r *Request) { r.QuayStorage = "/root/quay-install/quay-config" }, "lie in each other", "directory of its own"},
		{"database where the CA lies", false, func(b *box, r *Request) { r.SqliteStorage = "/root/quay-install/quay-rootCA/db" }, "lie in each other", "directory of its own"},
		{"storage where the certificate's state lies", false, func(b *box, r *Request) { r.QuayStorage = "/root/quay-install/tls-state" }, "lie in each other", "directory of its own"},
		{"database around the control socket", false, func(b *box, r *Request) { r.SqliteStorage = "/root/quay-install/run" }, "lie in each other", "directory of its own"},
		{"storage around everything", false, func(b *box, r *Request) {
			r.QuayRoot, r.QuayStorage, r.SqliteStorage = "/srv/a/quay", "/srv/a", "/srv/db"
		}, "lie in each other", "directory of its own"},
		{"a link to where the configuration lies", false, func(b *box, r *Request) {
			if err := os.Mkdir(b.path("root/quay-install"), 0o755); err != nil {
				b.t.Fatal(err)
			}
			b.link("/root/quay-install", "srv/a")
			r.QuayStorage = "/srv/a/quay-config"
		}, "lie in each other", "directory of its own"},
		{"an administrator with the puller's name", false, func(b *box, r *Request) { r.InitUser = "puller" }, "--initUser: puller is", "another name"},
		{"an edited port that is taken", false, func(b *box, r *Request) {
			b.install()
			b.edit("port: 8443", "port: 8444")
			b.edit(":8443", ":8444")
			b.write("proc/net/tcp", strings.Replace(takenPort, "20FB", "20FC", 1))
		}, "port 8444 is in use", "ss -ltnp"},
		{"a port that the appliance has itself", false, func(b *box, r *Request) {
			b.install()
			b.write("proc/net/tcp", takenPort)
		}, "", ""}, // no problem
		{"an unknown key in config.yaml", false, func(b *box, r *Request) {
			b.write("root/quay-install/quay-config/config.yaml", "hostnam: a\n")
		}, "/root/quay-install/quay-config/config.yaml:1", ""},
		{"another hostname than before", false, func(b *box, r *Request) { b.install(); r.Hostname = "other.example.com" },
			"--quayHostname says other.example.com", "appliance upgrade --quayHostname"},
		{"another port than before", false, func(b *box, r *Request) { b.install(); r.Port = 9443 }, "says port 9443", "appliance upgrade --quayHostname"},
		{"another storage than before", false, func(b *box, r *Request) { b.install(); r.QuayStorage = "/srv/new" }, "--quayStorage says /srv/new", "appliance upgrade --quayStorage"},
		{"another storage than that of kept images", false, func(b *box, r *Request) { b.install(); b.uninstall(false); r.QuayStorage = "/srv/new" },
			"--quayStorage says /srv/new, but the content that was kept lies in /root/quay-install/quay-storage", "leave out --quayStorage"},
		{"kept images that the user has moved", false, func(b *box, r *Request) {
			b.install()
			b.uninstall(false)
			b.write("srv/x", "")
			if err := os.Rename(b.path("root/quay-install/quay-storage"), b.path("srv/new")); err != nil {
				b.t.Fatal(err)
			}
			r.QuayStorage = "/srv/new"
		}, "", ""}, // no problem
		{"another directory than before", false, func(b *box, r *Request) { b.install(); r.QuayRoot = "/opt/quay" },
			"an appliance is installed already, in /root/quay-install", "appliance uninstall --quayRoot /root/quay-install"},
		{"a unit of our name that is not ours", false, func(b *box, r *Request) {
			b.write("etc/systemd/system/appliance.service", "[Service]\nExecStart=/usr/bin/toaster\n")
		}, "was not written by this installer", "rename"},
		{"a CA without its key", false, func(b *box, r *Request) {
			b.install()
			os.Remove(b.path("root/quay-install/quay-rootCA/rootCA-key.pem"))
		}, "only one file is there", "backup"},
		{"a certificate without its CA", false, func(b *box, r *Request) {
			b.install()
			os.RemoveAll(b.path("root/quay-install/quay-rootCA"))
		}, "is gone", "backup"},
		{"a CA that is none", false, func(b *box, r *Request) {
			b.install()
			b.write("root/quay-install/quay-rootCA/rootCA.pem", "junk")
		}, "the CA cannot be used", ""},
		{"a broken certificate", false, func(b *box, r *Request) {
			b.install()
			b.write("root/quay-install/quay-config/ssl.key", "junk")
		}, "are not a certificate and its key", "move both away"},
		{"a broken record", false, func(b *box, r *Request) {
			b.write("root/quay-install/quay-config/install.json", "{")
		}, "install.json", "move that file away"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, tt.user)
			r := b.request()
			tt.spoil(b, &r)
			before := b.snapshot()
			plan, err := PlanInstall(t.Context(), r, b.deps)
			same(t, "after planning", b.snapshot(), before)
			if tt.what == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var failure *PreflightError
			if !errors.As(err, &failure) {
				t.Fatalf("PlanInstall: %v, %v", plan, err)
			}
			if len(failure.Problems) != 1 {
				t.Fatalf("%d problems: %v", len(failure.Problems), failure)
			}
			if !strings.Contains(failure.Error(), tt.what) {
				t.Errorf("problem %q lacks %q", failure.Error(), tt.what)
			}
			if failure.Hint() == "" || !strings.Contains(failure.Hint(), tt.remedy) {
				t.Errorf("remedy %q lacks %q", failure.Hint(), tt.remedy)
			}
			if tt.name == "a short password" && strings.Contains(failure.Error()+failure.Hint(), r.InitPassword+" ") {
				t.Error("the password is shown")
			}
		})
	}
}

func TestPreflight_AllProblemsAtOnce(t *testing.T) {
	b := newBox(t, false)
	r := b.request()
	r.Hostname, r.InitPassword, r.QuayRoot = "10.0.0.1", "short", "/etc"
	b.deps.Geteuid = func() int { return 1000 }
	_, err := PlanInstall(t.Context(), r, b.deps)
	var failure *PreflightError
	if !errors.As(err, &failure) || len(failure.Problems) != 4 {
		t.Fatalf("PlanInstall: %v", err)
	}
	for _, p := range failure.Problems {
		if !strings.Contains(err.Error(), p.What) || !strings.Contains(err.Error(), p.Remedy) {
			t.Errorf("not shown: %+v", p)
		}
	}
}

func TestPreflight_Warns(t *testing.T) {
	b := newBox(t, false)
	b.deps.Resolver = resolverFunc(func(string) ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("203.0.113.77")}, nil })
	p := b.plan(b.request())
	p.Warnings = slices.DeleteFunc(p.Warnings, func(w Problem) bool { return strings.Contains(w.What, "a release of OpenShift takes about") }) // of the disk of the test
	if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0].What, "203.0.113.77, which is not an address of this host") {
		t.Errorf("warnings: %v", p.Warnings)
	}
}

// A port that this very test holds is found with its process.
func TestFindListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if l := findListener(host.Local(), port); l == nil || l.pid != os.Getpid() {
		t.Errorf("found: %+v, want process %d", l, os.Getpid())
	}
	l.Close()
	if l := findListener(host.Local(), port); l != nil {
		t.Errorf("after closing: %+v", l)
	}
}

func TestSpace(t *testing.T) {
	s := &site{Deps: Deps{Statfs: roomy, Host: host.Local()}}
	dir := s.lookAtPlace("--quayStorage", filepath.Join(t.TempDir(), "new"))
	if s.checkSpace(dir, 1); len(s.problems) != 0 {
		t.Errorf("a byte: %v", s.problems)
	}
	if s.checkSpace(dir, 1<<62); len(s.problems) != 1 || s.problems[0].Remedy == "" {
		t.Errorf("4 EiB: %v", s.problems)
	}
}

// A directory of several users is refused, as one below it is.
func TestInstall_RefusesARootOfSeveralUsers(t *testing.T) {
	b := newBox(t, false)
	b.write("opt/ten/mine.txt", "")
	b.chmod("opt/ten", 0o777)
	r := b.request()
	r.QuayRoot = "/opt/ten"
	_, err := PlanInstall(t.Context(), r, b.deps)
	if !errors.As(err, new(*PreflightError)) || !strings.Contains(err.Error(), "several users can change /opt/ten") {
		t.Errorf("error %v", err)
	}
}

func TestCheckContentSpace(t *testing.T) {
	for free, warned := range map[uint64]bool{18_000_000_000 / 4096: false, 16_000_000_000 / 4096: true} {
		s := &site{wanted: wanted{cfg: &config.Config{MinFree: 1 << 20}}}
		s.checkContentSpace(place{name: "--quayStorage", path: "/srv", ground: ground{fs: unix.Statfs_t{Bsize: 4096, Bavail: free}}})
		if (len(s.problems) == 1) != warned || warned && (!s.problems[0].Warning || !strings.Contains(s.problems[0].What, "17 GB")) {
			t.Errorf("%d: %v", free, s.problems)
		}
	}
}

func TestCheckInodes(t *testing.T) {
	for free, want := range map[uint64]int{5: 1, 500: 0} {
		s := &site{}
		s.checkInodes(place{name: "--quayStorage", path: "/srv", ground: ground{fs: unix.Statfs_t{Files: 1000, Ffree: free}}})
		if len(s.problems) != want {
			t.Errorf("%d: %v", free, s.problems)
		}
	}
	s := &site{}
	if s.checkInodes(place{}); len(s.problems) != 0 {
		t.Errorf("no limit: %v", s.problems)
	}
}
