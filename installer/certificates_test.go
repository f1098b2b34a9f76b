package installer

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/systemd"
	"github.com/mirror-appliance/appliance/tlsgen"
)

const oldCA, newCA = "root/quay-install/quay-rootCA/rootCA.key", "root/quay-install/quay-rootCA/rootCA-key.pem"

// olden makes of an install one as it was when the CA's key was called rootCA.key.
func (b *box) olden() {
	b.t.Helper()
	if err := os.Rename(b.path(newCA), b.path(oldCA)); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Remove(b.path("root/quay-install/quay-rootCA/rootCA.crt")); err != nil {
		b.t.Fatal(err)
	}
	b.edit("/quay-rootCA/rootCA-key.pem", "/quay-rootCA/rootCA.key")
	b.edit("SERVER_HOSTNAME: registry.example.com:8443\n", "# an edit of the user's\n")
}

// checkCADir fails where podman, skopeo or docker would with --cert-dir (containers-certs.d(5)):
// they take every *.crt for a CA, and every *.cert and *.key for halves of a client's pair.
func (b *box) checkCADir() {
	b.t.Helper()
	dir := b.path("root/quay-install/quay-rootCA")
	entries, err := os.ReadDir(dir)
	if err != nil {
		b.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".cert", ".key":
			b.t.Errorf("%s is taken for a client's", e.Name())
		case ".crt":
			pool.AppendCertsFromPEM([]byte(b.read("root/quay-install/quay-rootCA/" + e.Name())))
		}
	}
	block, _ := pem.Decode([]byte(b.read("root/quay-install/quay-config/ssl.cert")))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "registry.example.com"}); err != nil {
		b.t.Errorf("with the *.crt there: %v", err)
	}
}

func TestInstall_CADirectoryServesClients(t *testing.T) {
	b := newBox(t, false)
	b.install()
	b.checkCADir()
	b.olden()
	before := b.read(oldCA)
	b.install()
	b.checkCADir()
	if exists(b.path(oldCA)) || b.read(newCA) != before {
		t.Error("the key of before is not where it belongs")
	}
	conf := b.read("root/quay-install/quay-config/config.yaml")
	for _, want := range []string{"caKey: /root/quay-install/quay-rootCA/rootCA-key.pem\n", "\nSERVER_HOSTNAME: registry.example.com:8443\n", "# an edit of the user's\n"} {
		if !strings.Contains(conf, want) {
			t.Errorf("config.yaml lacks %q:\n%s", want, conf)
		}
	}
	if b.install().Changed {
		t.Error("the next install changes something")
	}
}

func TestInstall_CAKeyIsNeverLost(t *testing.T) {
	b := newBox(t, false)
	b.install()
	b.olden()
	key, before := b.read(oldCA), b.snapshot()
	for i := range len(b.plan(b.request()).steps) {
		p := b.plan(b.request())
		p.steps[i] = failing{p.steps[i]}
		if _, err := p.Apply(t.Context(), nil); err == nil {
			t.Fatal("no error")
		}
		same(t, "after a failure", b.snapshot(), before)
	}
	for i := range len(b.plan(b.request()).steps) {
		b.kill(b.plan(b.request()), i)
		b.install()
		if exists(b.path(oldCA)) || b.read(newCA) != key {
			t.Fatalf("killed after step %d, the next install has another key", i)
		}
		b.checkCADir()
		b.olden()
	}
}

// An uninstall that keeps the content of an older install keeps its CA, and no
// config.yaml that names the key.
func TestInstall_CAKeyOfKeptContent(t *testing.T) {
	b := newBox(t, false)
	b.install()
	b.olden()
	key := b.read(oldCA)
	b.uninstall(false)
	b.install()
	if exists(b.path(oldCA)) || b.read(newCA) != key {
		t.Error("the CA has another key, or has it where clients take it for theirs")
	}
	b.checkCADir()

	b = newBox(t, false)
	b.write(oldCA, key)
	b.install()
	if b.read(oldCA) != key || b.read(newCA) == key {
		t.Error("a key of which nothing tells whose it is was taken or removed")
	}
}

// A key that the user has elsewhere, under whatever name, is not touched.
func TestInstall_CAKeyElsewhereStays(t *testing.T) {
	b := newBox(t, false)
	b.install()
	b.write("srv/ca/rootCA.key", b.read(newCA))
	if err := os.Remove(b.path(newCA)); err != nil {
		t.Fatal(err)
	}
	b.edit("/root/quay-install/quay-rootCA/rootCA-key.pem", "/srv/ca/rootCA.key")
	b.install()
	if !exists(b.path("srv/ca/rootCA.key")) || exists(b.path(newCA)) {
		t.Error("the key was moved")
	}
}

func TestCAName(t *testing.T) {
	for host, want := range map[string]string{
		"registry.example.com":            "Mirror appliance CA (registry.example.com)",
		strings.Repeat("a", 42):           "Mirror appliance CA (" + strings.Repeat("a", 42) + ")",
		strings.Repeat("a", 43):           "Mirror appliance CA (" + strings.Repeat("a", 39) + "...)",
		strings.Repeat("abcdefg.", 31):    "Mirror appliance CA (" + strings.Repeat("abcdefg.", 31)[:39] + "...)",
		strings.Repeat("a", 63) + ".test": "Mirror appliance CA (" + strings.Repeat("a", 39) + "...)",
	} {
		if got := tlsgen.CAName(host); got != want || len(got) > 64 {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
}

// grep ^SERVER_HOSTNAME: is what scripts around mirror-registry do.
func TestInstall_AnswersForServerHostname(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		check := func(when, want string) {
			t.Helper()
			if conf := b.read(b.deps.Home + "/quay-install/quay-config/config.yaml"); !strings.Contains(conf, "\nSERVER_HOSTNAME: "+want+"\n") {
				t.Errorf("%s, config.yaml does not say %s:\n%s", when, want, conf)
			}
		}
		b.install()
		check("after an install", "registry.example.com:8443")
		b.edit("hostname: registry.example.com", "hostname: other.example.com")
		b.edit("port: 8443", "port: 9443")
		if _, err := b.plan(Request{Binary: b.path("program"), User: b.user}).Apply(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		check("after an edit and an install", "other.example.com:9443")
	})
}

// Clusters that use the kept images trust the CA, and their nodes have the pull secret.
func TestUninstall_KeepsCAAndPullSecretWithContent(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		root := b.deps.Home + "/quay-install"
		before := b.snapshot()
		b.install()
		files := []string{root + "/quay-rootCA/rootCA.pem", root + "/quay-rootCA/rootCA-key.pem", root + "/quay-config/pull-secret.json"}
		var kept []string
		for _, f := range files {
			kept = append(kept, b.read(f))
		}
		b.uninstall(false)
		b.install()
		for i, f := range files {
			if b.read(f) != kept[i] {
				t.Errorf("%s is another one", f)
			}
		}
		b.uninstall(false)
		b.uninstall(true)
		after := b.snapshot()
		same(t, "after both", after, before)
	})
}

// The CA of an install may sign for its hostname only. When the hostname is edited, the next
// install makes another.
func TestInstall_MakesACAForAnEditedHostname(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		root := b.deps.Home + "/quay-install"
		read := func() (ca, leaf *x509.Certificate) {
			t.Helper()
			for path, into := range map[string]**x509.Certificate{"/quay-rootCA/rootCA.pem": &ca, "/quay-config/ssl.cert": &leaf} {
				block, _ := pem.Decode([]byte(b.read(root + path)))
				cert, err := x509.ParseCertificate(block.Bytes)
				if err != nil {
					t.Fatal(err)
				}
				*into = cert
			}
			return ca, leaf
		}
		check := func(host string) *x509.Certificate {
			t.Helper()
			ca, leaf := read()
			roots := x509.NewCertPool()
			roots.AddCert(ca)
			if want := []string{host, "localhost"}; !slices.Equal(ca.PermittedDNSDomains, want) || !ca.PermittedDNSDomainsCritical || len(ca.ExcludedIPRanges) != 2 {
				t.Errorf("the CA is for %q", ca.PermittedDNSDomains)
			}
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); err != nil {
				t.Error(err)
			}
			b.mustHaveCopies(root + "/quay-rootCA/")
			return ca
		}
		b.install()
		before := check("registry.example.com")
		again := func() *Plan {
			t.Helper()
			p := b.plan(Request{Binary: b.path("program"), User: b.user})
			if _, err := p.Apply(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			return p
		}
		again()
		if ca := check("registry.example.com"); !ca.Equal(before) {
			t.Error("a second install made another CA")
		}
		b.edit("hostname: registry.example.com", "hostname: other.example.com")
		b.sm.calls = nil
		p := again()
		check("other.example.com")
		if !slices.Contains(b.sm.calls, "start "+systemd.Service) { // else the daemon goes on with the old one
			t.Errorf("systemd was told: %q", b.sm.calls)
		}
		if !slices.ContainsFunc(p.Warnings, func(p Problem) bool { return strings.Contains(p.What, "a new one replaces it") }) {
			t.Errorf("the warnings: %v", p.Warnings)
		}
	})
}

// What is said of a CA that has expired: move its files away, and install again.
func TestInstall_MakesACAWhenItsFilesAreMovedAway(t *testing.T) {
	eachMode(t, func(t *testing.T, b *box) {
		root := b.deps.Home + "/quay-install"
		ca, key := root+"/quay-rootCA/rootCA.pem", root+"/quay-rootCA/rootCA-key.pem"
		b.install()
		old, err := tlsgen.CreateCA("old", time.Now().AddDate(-21, 0, 0))
		if err != nil {
			t.Fatal(err)
		}
		leaf, leafKey, err := old.IssueLeaf([]string{"registry.example.com", "localhost"}, old.NotAfter().AddDate(-1, 0, 0))
		if err != nil {
			t.Fatal(err)
		}
		for path, content := range map[string][]byte{ca: old.CertPEM(), key: old.KeyPEM(), root + "/quay-config/ssl.cert": leaf, root + "/quay-config/ssl.key": leafKey} {
			if err := os.WriteFile(b.path(path), content, 0o600); err != nil { // through the links
				t.Fatal(err)
			}
		}
		p := b.plan(Request{Binary: b.path("program"), User: b.user})
		if !slices.ContainsFunc(p.Warnings, func(p Problem) bool { return strings.Contains(p.What, "expired at") && strings.Contains(p.Remedy, ca) }) {
			t.Errorf("the warnings: %v", p.Warnings)
		}
		for _, path := range []string{ca, key, root + "/quay-config/ssl.cert", root + "/quay-config/ssl.key"} {
			if err := os.Rename(b.path(path), b.path(path)+".old"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.plan(Request{Binary: b.path("program"), User: b.user}).Apply(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		authority, err := tlsgen.LoadCA(b.path(ca), b.path(key))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode([]byte(b.read(root + "/quay-config/ssl.cert")))
		served, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := served.Verify(x509.VerifyOptions{Roots: authority.Pool(), DNSName: "registry.example.com"}); err != nil {
			t.Error(err)
		}
	})
}
