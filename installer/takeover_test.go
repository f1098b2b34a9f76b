package installer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/installer/adopt"
	"github.com/mirror-appliance/appliance/systemd"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// eachVersion runs a test with a mirror-registry 2.x and a 3 to take over.
func eachVersion(t *testing.T, test func(t *testing.T, version int)) {
	for _, version := range []int{2, 3} {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) { test(t, version) })
	}
}

// quayUnits are the files of units of a mirror-registry, and the units.
func (b *box) quayUnits(version int) (files, units []string) {
	dir := b.deps.unitDir(b.user)
	if version == 3 {
		return []string{adopt.QuadletFile(dir)}, []string{quadletService}
	}
	for _, unit := range retired() {
		files = append(files, filepath.Join(dir, unit))
	}
	return files, retired()
}

// withQuay puts a mirror-registry on a host, and returns the request that takes its place.
func (b *box) withQuay(version int, images *int) Request {
	b.t.Helper()
	files, units := b.quayUnits(version)
	for _, file := range files {
		b.write(file, "[Container]\nVolume=/srv/quay:/data:Z\nExec=serve --data-dir /data\n")
	}
	for _, unit := range units {
		b.sm.active[unit] = true
	}
	b.sm.runs = map[string]string{}
	ca, err := tlsgen.CreateCA("quay", time.Now())
	if err != nil {
		b.t.Fatal(err)
	}
	leaf, key, err := ca.IssueLeaf([]string{"registry.example.com"}, time.Now())
	if err != nil {
		b.t.Fatal(err)
	}
	if version == 3 {
		leaf, key = selfSigned(b.t, "registry.example.com", true)
		b.write("srv/quay/ssl.cert", string(leaf))
		b.write("srv/quay/ssl.key", string(key))
	} else {
		b.writeCertificates(ca, leaf, key)
	}
	b.deps.Adopt = func(_ context.Context, in Installation, _ *TakeOver) error {
		for _, unit := range units {
			if b.sm.active[unit] {
				return fmt.Errorf("%s still runs", unit)
			}
		}
		*images++
		b.write(filepath.Join(in.Config.Storage, "sha256/ab/abcd"), "blob")
		b.write(in.Config.Database, "rows")
		return nil
	}
	r := b.request()
	r.TakeOver = &TakeOver{Quay: adopt.QuayInstall{Root: "/srv/quay", Version3: version == 3}, Public: []string{"open/image"}}
	return r
}

// writeCertificates writes them as a mirror-registry 2.x has them.
func (b *box) writeCertificates(ca *tlsgen.CA, leaf, key []byte) {
	for name, content := range map[string][]byte{"quay-rootCA/rootCA.pem": ca.CertPEM(), "quay-rootCA/rootCA.key": ca.KeyPEM(),
		"quay-config/ssl.cert": leaf, "quay-config/ssl.key": key} {
		b.write(filepath.Join("srv/quay", name), string(content))
	}
}

// quayRuns expects the mirror-registry to run.
func (b *box) quayRuns(version int) {
	b.t.Helper()
	_, units := b.quayUnits(version)
	for _, unit := range units {
		if !b.sm.active[unit] {
			b.t.Errorf("%s does not run", unit)
		}
	}
	b.sm.runs = map[string]string{} // what fakeSystemd notes of a start
}

func TestTakeOver(t *testing.T) {
	eachVersion(t, func(t *testing.T, version int) {
		eachMode(t, func(t *testing.T, b *box) { takesOver(t, b, version) })
	})
}

func takesOver(t *testing.T, b *box, version int) {
	imported := 0
	r := b.withQuay(version, &imported)
	b.write("proc/net/tcp", takenPort) // Quay's
	if _, err := PlanInstall(t.Context(), b.request(), b.deps); err == nil || !strings.Contains(err.Error(), "a mirror-registry is installed") {
		t.Errorf("without being asked to take it over: %v", err)
	}
	if _, err := b.plan(r).Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(b.deps.Home, "quay-install")
	kept := map[string]string{"quay-rootCA/rootCA.pem": "quay-rootCA/rootCA.pem", "quay-rootCA/rootCA.key": "quay-rootCA/rootCA-key.pem",
		"quay-config/ssl.cert": "quay-config/ssl.cert", "quay-config/ssl.key": "quay-config/ssl.key"}
	if version == 3 {
		kept = map[string]string{"ssl.cert": "quay-config/ssl.cert", "ssl.key": "quay-config/ssl.key"}
		if b.read("srv/quay/ssl.cert") != b.read(filepath.Join(root, "quay-rootCA/rootCA.pem")) {
			t.Error("clients that trust its certificate have to trust another")
		}
	}
	for from, to := range kept {
		if b.read(filepath.Join("srv/quay", from)) != b.read(filepath.Join(root, to)) {
			t.Errorf("%s is not the mirror-registry's %s", to, from)
		}
	}
	if conf := b.read(filepath.Join(root, "quay-config/config.yaml")); !strings.Contains(conf, "open/image") {
		t.Errorf("what is public is not:\n%s", conf)
	}
	files, units := b.quayUnits(version)
	for _, file := range files {
		if info, err := os.Lstat(b.path(file)); err == nil && info.Mode().IsRegular() || !exists(b.path(file+RetiredSuffix)) {
			t.Errorf("%s is not retired", file)
		}
	}
	for _, unit := range units {
		if b.sm.active[unit] {
			t.Errorf("%s runs", unit)
		}
	}
	if !b.sm.active[systemd.Service] || imported != 1 {
		t.Errorf("the appliance does not run, or imported %d times", imported)
	}
	before := b.snapshot()
	p := b.plan(r)
	if len(p.Warnings) == 0 || !strings.Contains(fmt.Sprint(p.Warnings), "was taken over already") {
		t.Errorf("the second time it warns %v", p.Warnings)
	}
	if result, err := p.Apply(t.Context(), nil); err != nil || result.Changed || imported != 1 {
		t.Errorf("the second time it changes something: %v, %v", result, err)
	}
	same(t, "the second time", b.snapshot(), before)
}

// TestTakeOver_failsAtEachStep: the mirror-registry runs again.
func TestTakeOver_failsAtEachStep(t *testing.T) {
	eachVersion(t, func(t *testing.T, version int) {
		b, imported := newBox(t, false), 0
		r := b.withQuay(version, &imported)
		before := b.snapshot()
		for i := range b.plan(r).steps {
			p := b.plan(r)
			name := p.steps[i].String()
			p.steps[i] = failing{p.steps[i]}
			_, err := p.Apply(t.Context(), nil)
			var failure *applyError
			if !errors.As(err, &failure) || failure.UndoErr != nil {
				t.Fatalf("step %d (%s): %v", i, name, err)
			}
			b.quayRuns(version)
			same(t, fmt.Sprintf("failed at step %d (%s)", i, name), b.snapshot(), before)
		}
	})
}

// TestTakeOver_killedAtEachStep: the same command completes it, or gives the host back; another one is
// told which.
func TestTakeOver_killedAtEachStep(t *testing.T) {
	eachVersion(t, func(t *testing.T, version int) {
		clean, none := newBox(t, false), 0
		for i := range clean.plan(clean.withQuay(version, &none)).steps {
			killedTakeOver(t, version, i)
		}
	})
}

func killedTakeOver(t *testing.T, version, i int) {
	b, imported := newBox(t, false), 0
	r := b.withQuay(version, &imported)
	before := b.snapshot()
	b.kill(b.plan(r), i)
	files, _ := b.quayUnits(version)
	if exists(b.path(files[0] + RetiredSuffix)) {
		plain := r
		plain.TakeOver = nil
		if _, err := PlanInstall(t.Context(), plain, b.deps); err == nil || !strings.Contains(err.Error(), "was interrupted") {
			t.Fatalf("step %d: a plain install goes on: %v", i, err)
		}
	}
	if i%2 == 0 {
		p := b.plan(r)
		last := slices.IndexFunc(p.steps, func(s host.Step) bool { _, ok := s.(*takeOver); return ok })
		p.steps[last] = failing{p.steps[last]}
		if _, err := p.Apply(t.Context(), nil); err == nil {
			t.Fatalf("step %d: it does not fail", i)
		}
		b.quayRuns(version)
		same(t, fmt.Sprintf("killed at step %d, then failed", i), b.snapshot(), before)
		return
	}
	if _, err := b.plan(r).Apply(t.Context(), nil); err != nil || imported == 0 || !b.sm.active[systemd.Service] {
		t.Errorf("killed at step %d: %v, imported %d times", i, err, imported)
	}
}

// TestTakeOver_powerCut: until the appliance is started, the boot brings the mirror-registry back; from then
// on, since pushes may have come, the command completes it.
func TestTakeOver_powerCut(t *testing.T) {
	t.Parallel()
	eachVersion(t, func(t *testing.T, version int) {
		clean, none, back := newBox(t, false), 0, 0
		for i, step := range clean.plan(clean.withQuay(version, &none)).steps {
			b, imported := newBox(t, false), 0
			r := b.withQuay(version, &imported)
			before := b.snapshot()
			b.kill(b.plan(r), i)
			when := fmt.Sprintf("killed at step %d (%s)", i, step)
			files, units := b.quayUnits(version)
			retired := exists(b.path(files[0] + RetiredSuffix))
			again := exists(b.path("etc/systemd/system/multi-user.target.wants/appliance-recover.service"))
			enabled := exists(b.path(b.sm.links()[1]))
			if retired && !again && !enabled {
				t.Errorf("%s: neither registry starts at boot", when)
			}
			if again && b.sm.active[systemd.Service] {
				t.Errorf("%s: the boot would take back what was pushed since the start", when)
			}
			if b.sm.active = make(map[string]bool); !again {
				continue
			}
			b.sm.active[systemd.Socket] = enabled // systemd starts what is enabled
			if !retired {
				if err := b.sm.Start(t.Context(), units...); err != nil {
					t.Fatal(err)
				}
			}
			if err := Recover(t.Context(), Request{QuayRoot: "/root/quay-install"}, b.deps, func(string) {}); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			b.quayRuns(version)
			same(t, when+", after the boot", b.snapshot(), before)
			if back++; t.Failed() {
				return
			}
		}
		if back < 10 {
			t.Errorf("%d steps were taken back", back)
		}
	})
}

// selfSigned makes a certificate for itself; as authority it is one that a mirror-registry 3 makes.
func selfSigned(t *testing.T, name string, authority bool) (certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(10 * 365 * 24 * time.Hour),
		SerialNumber: big.NewInt(1), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true, DNSNames: []string{name}}
	if authority {
		c.KeyUsage, c.IsCA = c.KeyUsage|x509.KeyUsageCertSign, true
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

// TestTakeOver_certificateThatSignsItself: what the appliance renews is trusted by clients that trust the
// certificate of a mirror-registry 3; a user's own is served as it is.
func TestTakeOver_certificateThatSignsItself(t *testing.T) {
	for _, authority := range []bool{true, false} {
		b, imported := newBox(t, false), 0
		r := b.withQuay(3, &imported)
		cert, key := selfSigned(t, "registry.example.com", authority)
		b.write("srv/quay/ssl.cert", string(cert))
		b.write("srv/quay/ssl.key", string(key))
		if _, err := b.plan(r).Apply(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if served := b.read("root/quay-install/quay-config/ssl.cert"); served != string(cert) {
			t.Errorf("with authority %v it serves another certificate", authority)
		}
		ca, err := tlsgen.LoadCA(b.path("root/quay-install/quay-rootCA/rootCA.pem"), b.path("root/quay-install/quay-rootCA/rootCA-key.pem"))
		if (err == nil) != authority {
			t.Fatalf("with authority %v the CA is %v, %v", authority, ca, err)
		}
		if !authority {
			continue
		}
		renewed, _, err := ca.IssueLeaf(servedNames("registry.example.com"), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(renewed)
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		trusted := x509.NewCertPool()
		trusted.AppendCertsFromPEM(cert)
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: "registry.example.com", Roots: trusted}); err != nil {
			t.Errorf("a renewed certificate is not trusted: %v", err)
		}
	}
}

// TestTakeOver_certificateOfTheUser was not signed by the mirror-registry's CA: it is served as it is.
func TestTakeOver_certificateOfTheUser(t *testing.T) {
	b, imported := newBox(t, false), 0
	r := b.withQuay(2, &imported)
	ca, err := tlsgen.CreateCA("corporate", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	leaf, key, err := ca.IssueLeaf([]string{"registry.example.com"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b.write("srv/quay/quay-config/ssl.cert", string(leaf))
	b.write("srv/quay/quay-config/ssl.key", string(key))
	if _, err := b.plan(r).Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(b.path("root/quay-install/quay-config/ssl.cert"), b.path("root/quay-install/quay-config/ssl.key"))
	if err != nil || pair.Leaf.Issuer.CommonName != "corporate" {
		t.Errorf("the certificate is another: %v", err)
	}
	if _, err := os.Stat(b.path("root/quay-install/quay-rootCA/rootCA-key.pem")); err == nil {
		t.Error("a CA was made")
	}
}
