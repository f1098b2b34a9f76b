package installer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// certify writes a pair of another CA to files outside of quayRoot, and returns the request for it.
func (b *box) certify(now time.Time, names ...string) Request {
	b.t.Helper()
	ca, err := tlsgen.CreateCA("the site's CA", now)
	if err != nil {
		b.t.Fatal(err)
	}
	cert, key, err := ca.IssueLeaf(names, now)
	if err != nil {
		b.t.Fatal(err)
	}
	b.write("given/tls.crt", string(cert))
	b.write("given/tls.key", string(key))
	r := b.request()
	r.SSLCert, r.SSLKey = "/given/tls.crt", "/given/tls.key"
	return r
}

func (b *box) apply(r Request) Result {
	b.t.Helper()
	result, err := b.plan(r).Apply(b.t.Context(), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

// checkGiven fails unless the given pair is the one that the daemon serves, and is the user's.
func (b *box) checkGiven() {
	b.t.Helper()
	root := b.deps.Home + "/quay-install"
	cfg, err := config.Parse("config.yaml", []byte(b.read(config.Path(root))))
	if err != nil {
		b.t.Fatal(err)
	}
	if want := (config.TLS{Certificate: root + "/quay-config/ssl.cert", Key: root + "/quay-config/ssl.key"}); cfg.TLS != want {
		b.t.Errorf("the configuration has %+v", cfg.TLS)
	}
	for file, from := range map[string]string{cfg.TLS.Certificate: "given/tls.crt", cfg.TLS.Key: "given/tls.key"} {
		info, err := os.Lstat(b.path(file))
		if err != nil || !info.Mode().IsRegular() || b.read(file) != b.read(from) {
			b.t.Errorf("%s is not a copy of %s (%v)", file, from, err)
		}
		if strings.HasSuffix(from, "key") && info.Mode().Perm()&0o007 != 0 {
			b.t.Errorf("%s has the mode %s", file, info.Mode())
		}
	}
}

func TestInstall_GivenCertificate(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		b.write("given/tls.crt", "")
		b.write("given/tls.key", "")
		r := b.certify(time.Now(), "registry.example.com")
		before := b.snapshot()
		result := b.apply(r)
		b.checkGiven()
		if result.CA != "" || exists(b.path(b.deps.Home+"/quay-install/quay-rootCA")) {
			t.Errorf("there is a CA: %q", result.CA)
		}
		if b.apply(r).Changed {
			t.Error("the same command changes something")
		}
		if b.install().Changed {
			t.Error("an install without the flags changes something")
		}
		b.apply(b.certify(time.Now(), "registry.example.com"))
		b.checkGiven()
		b.uninstall(true)
		for _, file := range []string{"/given/tls.crt", "/given/tls.key"} { // by now another pair
			before[file] = b.snapshot()[file]
		}
		same(t, "after an uninstall", b.snapshot(), before)
	})
}

// TestInstall_ownCertificateClosed has a pair that was copied by hand, which the service may not read.
func TestInstall_ownCertificateClosed(t *testing.T) {
	b := newBox(t, false)
	b.apply(b.certify(time.Now(), "registry.example.com"))
	// The user of the test has all files of the box: the service becomes another of that group.
	b.write("etc/passwd", b.passwd(fmt.Sprintf("appliance:x:4242:%d::/:/sbin/nologin\n", os.Getgid())))
	files := []string{"root/quay-install/quay-config/ssl.key", "root/quay-install/quay-config/ssl.cert"}
	check := func(want ...fs.FileMode) {
		t.Helper()
		for i, file := range files {
			if info, err := os.Stat(b.path(file)); err != nil || info.Mode() != want[i] {
				t.Errorf("the mode of %s is %v, %v; want %v", file, info.Mode(), err, want[i])
			}
		}
	}
	if steps := b.plan(b.request()).site.openOwn(); len(steps) > 0 {
		t.Errorf("of what the service may read: %v", steps)
	}
	b.chmod(files[0], 0o600)
	b.chmod(files[1], 0o600)
	p := b.plan(b.request())
	var undo []func() (bool, error)
	for _, step := range p.steps {
		if _, ok := step.(*opened); !ok {
			continue
		}
		entry, err := host.Kinds(p.site.kinds).Encode(host.Entry{Step: step, Before: &host.Before{}})
		if err != nil || !strings.Contains(string(entry), "/ssl.") {
			t.Errorf("the journal has %s, %v", entry, err)
		}
		before, err := step.Check(t.Context())
		if err != nil || before == nil {
			t.Fatalf("%s: %v, %v", step, before, err)
		}
		if _, err := step.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		undo = append(undo, func() (bool, error) { return step.Undo(t.Context(), before) })
	}
	check(0o640, 0o644)
	for _, undo := range undo {
		must2(undo())
	}
	check(0o600, 0o600)

	b.write("etc/pki/tls.key", b.read(files[0]))
	b.chmod("etc/pki/tls.key", 0o600)
	b.edit("/root/quay-install/quay-config/ssl.key", "/etc/pki/tls.key")
	p = b.plan(b.request())
	if !slices.ContainsFunc(p.Warnings, func(w Problem) bool {
		return w.Remedy == "chown root:appliance /etc/pki/tls.key && chmod 640 /etc/pki/tls.key"
	}) {
		t.Errorf("of a key elsewhere it warns %v", p.Warnings)
	}
}

// The pair takes the place of what the appliance's CA has signed, and a failure brings that back.
func TestInstall_GivenCertificateReplacesOurs(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		b.install()
		b.edit("tls:\n", "tls:\n  # of the user's\n")
		r := b.certify(time.Now(), "registry.example.com")
		before := b.snapshot()
		for i := range len(b.plan(r).steps) {
			p := b.plan(r)
			p.steps[i] = failing{p.steps[i]}
			if _, err := p.Apply(t.Context(), nil); err == nil {
				t.Fatal("no error")
			}
			same(t, "after a failure", b.snapshot(), before)
		}
		b.apply(r)
		b.checkGiven()
		if !strings.Contains(b.read(config.Path(b.deps.Home+"/quay-install")), "\n  # of the user's\n") {
			t.Error("config.yaml lacks the user's comment")
		}
		if b.apply(r).Changed {
			t.Error("the same command changes something")
		}
	})
}

func TestInstall_RefusesACertificate(t *testing.T) {
	year := 366 * 24 * time.Hour
	for name, c := range map[string]struct {
		give func(b *box) Request
		want string
	}{
		"expired":       {func(b *box) Request { return b.certify(time.Now().Add(-2*year), "registry.example.com") }, "the certificate expired at"},
		"not yet valid": {func(b *box) Request { return b.certify(time.Now().Add(year), "registry.example.com") }, "the certificate is valid from"},
		"another host":  {func(b *box) Request { return b.certify(time.Now(), "other.example.com") }, "not for registry.example.com: it is for other.example.com"},
		"the key of another": {func(b *box) Request {
			r := b.certify(time.Now(), "registry.example.com")
			key := b.read("given/tls.key")
			b.certify(time.Now(), "registry.example.com")
			b.write("given/tls.key", key)
			return r
		}, "do not make a pair"},
		"no key": {func(b *box) Request {
			r := b.certify(time.Now(), "registry.example.com")
			r.SSLKey = ""
			return r
		}, "--sslCert is given without --sslKey"},
		"no certificate": {func(b *box) Request {
			r := b.certify(time.Now(), "registry.example.com")
			r.SSLCert = ""
			return r
		}, "--sslKey is given without --sslCert"},
		"not there": {func(b *box) Request {
			r := b.request()
			r.SSLCert, r.SSLKey = "/given/absent", "/given/absent"
			return r
		}, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, false)
			r := c.give(b)
			before := b.snapshot()
			var refused *PreflightError
			if _, err := PlanInstall(t.Context(), r, b.deps); !errors.As(err, &refused) || !strings.Contains(err.Error(), c.want) || refused.Hint() == "" {
				t.Errorf("got %v, want %q", err, c.want)
			}
			same(t, "after the refusal", b.snapshot(), before)
			if name == "another host" {
				r.SSLCheckSkip = true
				b.apply(r)
				b.checkGiven()
				if b.install().Changed {
					t.Error("the next install changes something")
				}
			}
		})
	}
}

// A site's CA that config.yaml names stays named, and has to have signed the new certificate.
func TestInstall_GivenCertificateOfTheNamedCA(t *testing.T) {
	b := newBox(t, false)
	b.apply(b.certify(time.Now(), "registry.example.com"))
	b.edit(`ca: ""`, "ca: /given/ca.pem")
	other := b.certify(time.Now(), "registry.example.com")
	cert := b.read("given/tls.crt")
	b.write("given/ca.pem", cert[strings.LastIndex(cert, "-----BEGIN"):])
	b.apply(other)
	if conf := b.read(filepath.Join(b.deps.Home, "quay-install/quay-config/config.yaml")); !strings.Contains(conf, "ca: /given/ca.pem\n") {
		t.Errorf("the CA is not named any more:\n%s", conf)
	}
	if _, err := PlanInstall(t.Context(), b.certify(time.Now(), "registry.example.com"), b.deps); err == nil || !strings.Contains(err.Error(), "not signed by the CA in") {
		t.Errorf("of another CA: %v", err)
	}
}

// A pair that is put in place by hand, as ssl.crt, is that of an install as well.
func TestInstall_OwnCertificateByItsOtherName(t *testing.T) {
	b := newBox(t, false)
	b.apply(b.certify(time.Now(), "registry.example.com"))
	conf := "root/quay-install/quay-config/"
	b.certify(time.Now(), "registry.example.com")
	b.write(conf+"ssl.crt", b.read("given/tls.crt"))
	b.write(conf+"ssl.key", b.read("given/tls.key"))
	if b.install().Changed {
		t.Error("an install changes something")
	}
	if err := os.Remove(b.path(conf + "ssl.cert")); err != nil {
		t.Fatal(err)
	}
	if b.install().Changed {
		t.Error("without ssl.cert an install changes something")
	}
	if err := os.Remove(b.path(conf + "ssl.crt")); err != nil {
		t.Fatal(err)
	}
	if _, err := PlanInstall(t.Context(), b.request(), b.deps); err == nil || !strings.Contains(err.Error(), "ssl.cert, which does not exist") {
		t.Errorf("without either: %v", err)
	}
}
