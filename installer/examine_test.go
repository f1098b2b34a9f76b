package installer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
)

// examine returns what is found that is not well, with its check in front.
func (b *box) examine(e Examination) (unwell []string) {
	b.t.Helper()
	b.deps.Reach = b.health
	_, err := Examine(b.t.Context(), b.deps, e, func(f finding.Finding) {
		if f.Level != finding.OK && (f.Check != "clock" || f.Level == finding.Failed) { // the machine of the test may have no NTP
			unwell = append(unwell, string(f.Level)+" "+f.Check+" "+f.Subject+": "+f.Text+" | "+f.Hint)
		}
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return unwell
}

// TestExamine spoils one thing after the other of an install that is well: each is told by name, with
// what to do.
func TestExamine(t *testing.T) {
	t.Parallel()
	for _, user := range []bool{false, true} {
		b := newBox(t, user)
		b.install()
		if got := b.examine(Examination{}); len(got) > 0 {
			t.Fatalf("user %v: an install that is well: %q", user, got)
		}
	}
	for _, tc := range []struct {
		name  string
		user  bool
		spoil func(b *box)
		want  string
	}{
		{"a unit that failed", false, func(b *box) { b.sm.active[systemd.Service] = false }, "failed unit appliance.service: it is inactive | sudo systemctl start appliance.service"},
		{"a user's", true, func(b *box) { b.sm.active[systemd.Service] = false }, "systemctl --user start appliance.service"},
		{"a unit that is gone", false, func(b *box) { os.Remove(b.path("etc/systemd/system/appliance.socket")) }, "failed unit appliance.socket: systemd has not loaded it"},
		{"units that do not start at boot", false, func(b *box) { must2(b.sm.Disable(b.t.Context(), systemd.Service)) }, "it does not start at boot"},
		{"a service that ends again and again", false, func(b *box) { b.sm.restarts = 7 }, "warning unit appliance.service: it has ended and was started again by systemd, 7 times | see why: sudo journalctl -u appliance"},
		{"no lingering", true, func(b *box) { b.sm.lingering = false }, "failed lingering 1000: the service ends when the user logs out | loginctl enable-linger"},
		{"no systemd", false, func(b *box) { os.RemoveAll(b.path("run/systemd")) }, "systemd is not running"},
		{"no unit, and no daemon", false, func(b *box) { b.without() }, "nothing listens on the port | start its daemon, which no unit does"},
		{"no unit, and another process", false, func(b *box) { b.without(); b.write("proc/net/tcp", takenPort) }, "it gives no answer on this host: connection refused | see the log of its daemon"},
		{"no unit, and an old certificate", false, func(b *box) {
			b.without()
			b.deps.Clock = func() (time.Time, bool) { return time.Now().AddDate(3, 0, 0), true }
		}, "otherwise: restart its daemon"},
		{"another port", false, func(b *box) { b.edit("port: 8443", "port: 9443") }, "it listens on another port than the 9443 of config.yaml | appliance install"},
		{"another process", false, func(b *box) { b.sm.active[systemd.Service] = false; b.write("proc/net/tcp", takenPort) }, "failed port registry.example.com:8443: it gives no answer on this host"},
		{"a name of another host", false, func(b *box) {
			b.deps.Resolver = resolverFunc(func(string) ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("192.0.2.9")}, nil })
		}, "resolves to 192.0.2.9"},
		{"blobs that only this host gets", false, func(b *box) {
			b.edit("storageRedirect: false", "storageRedirect: true")
			b.edit("storage: /root/quay-install/quay-storage", "storage: s3://images?endpoint=https://s3.example.com:9000")
		}, "failed redirect s3.example.com:9000: clients are redirected to it for blobs, and other hosts do not reach its address 127.0.0.1 | name an endpoint"},
		{"a mirror-registry", false, func(b *box) { b.write("etc/systemd/system/quay-pod.service", "") }, "warning other : a mirror-registry is installed too (/etc/systemd/system/quay-pod.service)"},
		{"another user's appliance", false, func(b *box) {
			b.write("root/.config/systemd/user/appliance.service", "[Service]\nExecStart=/x serve --config /root/two/quay-config/config.yaml\n")
		}, "another appliance is installed too, in /root/two"},
		{"a certificate for another name", false, func(b *box) { b.edit("hostname: registry.example.com", "hostname: other.example.com") }, "is not for other.example.com"},
		{"a clock that went back", false, func(b *box) {
			later := time.Now().Add(time.Hour)
			if err := os.Chtimes(b.path("root/quay-install/sqlite-storage/appliance.db"), later, later); err != nil {
				b.t.Fatal(err)
			}
		}, "and the database was written at"},
		{"a lost storage", false, func(b *box) { os.RemoveAll(b.path("root/quay-install/quay-storage")) }, "the directory of the blobs /root/quay-install/quay-storage does not exist"},
		{"an empty directory in the place of the storage", false, func(b *box) {
			os.RemoveAll(b.path("root/quay-install/quay-storage"))
			os.Mkdir(b.path("root/quay-install/quay-storage"), 0o750)
		}, "quay-storage has no sha256: it is not the one of this database | mount the file system that has it"},
		{"a lost database", false, func(b *box) { os.Remove(b.path("root/quay-install/sqlite-storage/appliance.db")) }, "appliance.db does not exist, and /root/quay-install/quay-storage has images | mount the file system that has it"},
		{"a lost unit of the service", false, func(b *box) { os.Remove(b.path("etc/systemd/system/appliance.service")) }, "failed unit appliance.service: /etc/systemd/system/appliance.service, which the install wrote, does not exist | have it written anew: appliance install"},
		{"a lost program", false, func(b *box) { os.Remove(b.path("usr/local/bin/appliance")) }, "failed unit appliance.service: its program /usr/local/bin/appliance does not exist"},
		{"a program that cannot be executed", true, func(b *box) { b.chmod("home/alice/.local/bin/appliance", 0o644) }, "its program /home/alice/.local/bin/appliance cannot be executed (mode 0644) | chmod 755"},
		{"a lost record", false, func(b *box) { os.Remove(b.path("root/quay-install/quay-config/install.json")) }, "warning install /root/quay-install: /root/quay-install/quay-config/install.json, which has what the install has done, does not exist"},
		{"a lost configuration", false, func(b *box) { os.Remove(b.path("root/quay-install/quay-config/config.yaml")) }, "config.yaml: it does not exist | put it back"},
		{"files of others", false, func(b *box) { b.write("root/quay-install/sqlite-storage/notes.txt", "") }, "holds other things already (notes.txt)"},
		{"an interrupted install", false, func(b *box) {
			b.write("root/quay-install/quay-config/undo/journal", `{"step":"file","values":{"path":"/x"},"before":{"owner":{}}}`+"\n")
		}, "failed install /root/quay-install: an install was interrupted"},
		{"an authFile that the unit does not show", false, func(b *box) {
			b.write("root/secret/auth.json", `{"auths":{}}`)
			b.append("upstreams:\n  - prefix: quay.io\n    url: https://quay.io\n    authFile: /root/secret/auth.json\n")
		}, "the service does not see /root/secret"},
		{"a key of ACME that each user may read", false, func(b *box) {
			b.write("root/quay-install/quay-config/acme.key", "key")
			b.edit("keyFile: \"\"", "keyFile: /root/quay-install/quay-config/acme.key")
			b.edit("keyID: \"\"", "keyID: one")
			b.edit("directory: \"\"", "directory: https://acme.example.com/directory")
		}, "each user of this host may read /root/quay-install/quay-config/acme.key"},
		{"an ACME server's CA that does not exist", false, func(b *box) {
			b.edit("directory: \"\"\n    ca: \"\"", "directory: https://acme.example.com/directory\n    ca: /opt/none.pem")
		}, "failed files : tls.acme.ca of config.yaml is /opt/none.pem, which does not exist"},
		{"a key that the service may not read", false, func(b *box) {
			b.write("etc/passwd", b.passwd("appliance:x:4242:4242::/:/sbin/nologin\n"))
		}, "tls.key of config.yaml is /root/quay-install/quay-config/ssl.key, which the registry's user appliance may not use (mode 0600) | chown root:appliance"},
		{"a lost login of the nodes", false, func(b *box) { os.Remove(b.path("root/quay-install/quay-config/pull-secret.json")) }, "warning login puller: /root/quay-install/quay-config/pull-secret.json, which the install wrote, does not exist | have a new login made, and give it to the clusters: appliance install"},
		{"a login of the nodes that is refused", true, func(b *box) {
			b.deps.Login = func(context.Context, *config.Config, string) (bool, error) { return false, nil }
		}, "failed login puller: the registry refuses the login in /home/alice/quay-install/quay-config/pull-secret.json"},
		{"a puller that may push", false, func(b *box) {
			b.deps.Foresee = func(context.Context, Installation) (seeding, error) { return seeding{role: "push"}, nil }
		}, "warning login puller: the user puller, whose login nodes have, may do more than pull (role push), and install leaves it alone | if that is not intended: appliance user role puller pull"},
		{"a puller that may push, without its file", false, func(b *box) {
			b.deps.Foresee = func(context.Context, Installation) (seeding, error) { return seeding{role: "push"}, nil }
			os.Remove(b.path("root/quay-install/quay-config/pull-secret.json"))
		}, "pull-secret.json, which the install wrote, does not exist | give it the role of nodes again, then have a new login made: appliance user role puller pull; appliance install"},
		{"a firewall", false, func(b *box) {
			b.firewalled()
		}, "warning firewall firewalld: port 8443 is not open in firewalld's zone public | sudo firewall-cmd --permanent --zone=public --add-port=8443/tcp"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, tc.user)
			b.install()
			tc.spoil(b)
			got := strings.Join(b.examine(Examination{}), "\n")
			if !strings.Contains(got, tc.want) {
				t.Errorf("it does not tell %q:\n%s", tc.want, got)
			}
		})
	}
}

// Clients of several daemons may come by a balancer on another port than each daemon listens on.
func TestExamine_balancer(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{":8443": "", ":9443": "it listens on another port than the 9443 of config.yaml"} {
		b := newBox(t, false)
		b.install()
		b.write("proc/net/tcp", takenPort)
		b.edit("port: 8443", "port: 443")
		b.edit("listen: :8443", "listen: "+listen)
		b.edit("database: /root/quay-install/sqlite-storage/appliance.db", "database: postgres://appliance@127.0.0.1:1/appliance?sslmode=require")
		b.edit("sharedKey: \"\"", "sharedKey: /root/quay-install/quay-config/shared-key")
		b.edit("storage: /root/quay-install/quay-storage", "storage: s3://images?endpoint=https://s3.example.com:9000")
		asked := 0
		b.deps.Health = func(_ context.Context, cfg *config.Config) error {
			asked = cfg.PortHere()
			return nil
		}
		got := ""
		for _, line := range b.examine(Examination{}) {
			if strings.HasPrefix(line, "failed port") || strings.HasPrefix(line, "failed unit") {
				got += line + "\n"
			}
		}
		if want == "" && got != "" || !strings.Contains(got, want) || fmt.Sprint(":", asked) != listen {
			t.Errorf("with listen: %s it asks at port %d and tells %q", listen, asked, got)
		}
		for _, line := range b.examine(Examination{ConfigOnly: true}) {
			if want == "" && strings.HasPrefix(line, "failed port") {
				t.Errorf("with listen: %s, on which it listens itself, it tells %q", listen, line)
			}
		}
	}
}

// What doctor advises where the record is lost gives a record again.
func TestExamine_lostRecord(t *testing.T) {
	t.Parallel()
	b := newBox(t, false)
	b.install()
	must2(b.deps.Host.Remove("/root/quay-install/quay-config/install.json"))
	b.install()
	if got := b.examine(Examination{}); len(got) > 0 {
		t.Errorf("after an install it finds %q", got)
	}
}

// without has no unit run the daemon.
func (b *box) without() {
	b.sm.active[systemd.Service] = false
	for _, unit := range []string{systemd.Service, systemd.Socket} {
		must2(false, os.Remove(b.path("etc/systemd/system/"+unit)))
	}
}

func (b *box) append(text string) {
	path := config.Path(filepath.Join(b.deps.Home, "quay-install"))
	before := strings.Replace(b.read(path), "\nupstreams: []", "", 1)
	b.write(path, before+"\n"+text)
}

func must2(_ bool, err error) {
	if err != nil {
		panic(err)
	}
}

// A configuration that is to take the place of the installed one is judged as that.
func TestExamine_candidate(t *testing.T) {
	t.Parallel()
	b := newBox(t, false)
	b.install()
	b.write("root/next.yaml", strings.Replace(b.read("root/quay-install/quay-config/config.yaml"), "port: 8443", "port: 8444", 1))
	got := b.examine(Examination{File: "/root/next.yaml", ConfigOnly: true})
	if len(got) > 0 {
		t.Errorf("it finds %q", got)
	}
	b.write("proc/net/tcp", strings.Replace(takenPort, "20FB", "20FC", 1))
	if got := strings.Join(b.examine(Examination{File: "/root/next.yaml", ConfigOnly: true}), "\n"); !strings.Contains(got, "port 8444 is in use") {
		t.Errorf("it finds %q", got)
	}
}

// A daemon that runs has read its configuration: only the next start would fail.
func TestExaminer_checkRead(t *testing.T) {
	t.Parallel()
	b := newBox(t, false)
	b.install()
	s, err := newSite(Request{}, b.deps)
	if err != nil {
		t.Fatal(err)
	}
	s.QuayRoot, s.unit = "/root/quay-install", &installed{}
	x := &examiner{site: s, id: &Identity{UID: 4242, GID: os.Getgid()}}
	if x.checkRead(); len(x.problems) > 0 {
		t.Errorf("an install that is well: %v", x.problems)
	}
	b.chmod("root/quay-install/quay-config/config.yaml", 0o600)
	x.checkRead()
	if len(x.problems) != 1 || !strings.Contains(x.problems[0].What, "config.yaml (mode 0600), and cannot start again") {
		t.Errorf("it finds %v", x.problems)
	}
}

func TestExamine_absent(t *testing.T) {
	t.Parallel()
	b := newBox(t, false)
	_, err := Examine(context.Background(), b.deps, Examination{}, func(finding.Finding) {})
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestExamine_ownCertificate(t *testing.T) {
	t.Parallel()
	for want, names := range map[string]string{"": "registry.example.com", "the certificate is not for registry.example.com: it is for other.example.com": "other.example.com"} {
		b := newBox(t, false)
		r := b.certify(time.Now(), names)
		r.SSLCheckSkip = true
		b.apply(r)
		got := strings.Join(b.examine(Examination{}), "\n")
		if !strings.Contains(got, want) || strings.Contains(got, "failed certificate") || want == "" && strings.Contains(got, "certificate is not for") {
			t.Errorf("with a certificate for %s: %s", names, got)
		}
	}
}

// While the start of the daemon waits, the port is not looked at.
func TestExamine_waits(t *testing.T) {
	t.Parallel()
	b := newBox(t, false)
	b.install()
	b.deps.Health = func(context.Context, *config.Config) error { return errors.New("connection refused") }
	for _, waits := range []bool{true, false} {
		got := b.examine(Examination{Waits: func(_ context.Context, id *Identity) bool { return waits && id.Config != nil }})
		if (len(got) == 0) != waits {
			t.Errorf("it waits %v: %q", waits, got)
		}
	}
}
