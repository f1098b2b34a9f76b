package tlsgen

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

func newCA(t *testing.T) *CA {
	t.Helper()
	ca, err := CreateCA("test root", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// oldCA is old enough for its leaves to have expired.
func oldCA(t *testing.T) *CA {
	t.Helper()
	ca, err := CreateCA("old test root", time.Now().Add(-2000*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func parse(t *testing.T, certPEM []byte) *x509.Certificate {
	t.Helper()
	cert, err := firstCert("test", certPEM)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func put(t *testing.T, file string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestCreateCA(t *testing.T) {
	now := time.Now()
	ca := newCA(t)
	cert := parse(t, ca.CertPEM())
	if !cert.IsCA || cert.MaxPathLen != 0 || !cert.MaxPathLenZero {
		t.Errorf("IsCA %v, path length %d: it must sign leaves and nothing else", cert.IsCA, cert.MaxPathLen)
	}
	if want := x509.KeyUsageCertSign | x509.KeyUsageCRLSign; cert.KeyUsage != want {
		t.Errorf("key usage %b, want %b", cert.KeyUsage, want)
	}
	if len(cert.SubjectKeyId) == 0 {
		t.Error("no subject key id")
	}
	if cert.NotAfter.Before(now.AddDate(10, 0, 0)) {
		t.Errorf("expires %s, within ten years", cert.NotAfter)
	}
	if cert.NotBefore.After(now.Add(-30 * time.Minute)) {
		t.Errorf("valid from %s: a client whose clock is behind refuses it", cert.NotBefore)
	}
	if cert.SerialNumber.BitLen() < 64 {
		t.Errorf("serial of %d bits", cert.SerialNumber.BitLen())
	}
}

func TestIssueLeaf(t *testing.T) {
	ca, now := newCA(t), time.Now()
	certPEM, keyPEM, err := ca.IssueLeaf([]string{"10.1.2.3", "Registry.Example.COM.", "localhost", "localhost", "::1"}, now)
	if err != nil {
		t.Fatal(err)
	}
	leaf := parse(t, certPEM)
	if want := []string{"registry.example.com", "localhost", "10.1.2.3", "::1"}; !slices.Equal(namesOf(leaf), want) {
		t.Errorf("names %q, want %q", namesOf(leaf), want)
	}
	if leaf.Subject.CommonName != "" {
		t.Errorf("common name %q: certmagic would renew for it", leaf.Subject.CommonName)
	}
	if !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) || leaf.IsCA {
		t.Errorf("usage %v, CA %v", leaf.ExtKeyUsage, leaf.IsCA)
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 398*24*time.Hour {
		t.Errorf("lives %s, beyond 398 days", life)
	}
	if leaf.NotBefore.After(now.Add(-59 * time.Minute)) {
		t.Errorf("valid from %s: a client whose clock is behind refuses it", leaf.NotBefore)
	}
	if leaf.SerialNumber.BitLen() < 64 {
		t.Errorf("serial of %d bits", leaf.SerialNumber.BitLen())
	}
	for _, name := range []string{"registry.example.com", "localhost", "10.1.2.3", "::1"} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: ca.Pool(), DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !bytes.HasSuffix(certPEM, ca.CertPEM()) {
		t.Error("the CA does not follow the leaf")
	}
	if _, err := firstKey("key", keyPEM); err != nil {
		t.Error(err)
	}
}

func TestIssueLeaf_NeverOutlivesTheCA(t *testing.T) {
	ca := newCA(t)
	certPEM, _, err := ca.IssueLeaf([]string{"a"}, ca.NotAfter().Add(-24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if leaf := parse(t, certPEM); !leaf.NotAfter.Equal(ca.NotAfter()) {
		t.Errorf("leaf until %s, CA until %s", leaf.NotAfter, ca.NotAfter())
	}
	if _, _, err := ca.IssueLeaf([]string{"a"}, ca.NotAfter().Add(time.Second)); err == nil {
		t.Error("an expired CA signed")
	}
}

func TestIssueLeaf_ClockBeforeTheCA(t *testing.T) {
	ca := newCA(t)
	certPEM, _, err := ca.IssueLeaf([]string{"a"}, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if leaf := parse(t, certPEM); !leaf.NotBefore.Equal(ca.cert.NotBefore) || leaf.NotAfter.Sub(leaf.NotBefore) != leafLifetime {
		t.Errorf("leaf from %s until %s", leaf.NotBefore, leaf.NotAfter)
	}
}

func TestIssueLeaf_NoNames(t *testing.T) {
	for _, names := range [][]string{nil, {""}, {"a", " "}} {
		if _, _, err := newCA(t).IssueLeaf(names, time.Now()); err == nil {
			t.Errorf("%q: a certificate for no name", names)
		}
	}
}

// rsaCA is an authority as mirror-registry's openssl makes it, with the given key form.
func rsaCA(t *testing.T, pkcs1 bool) (certPEM, keyPEM []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "quay.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	if !pkcs1 {
		block.Type = "PRIVATE KEY"
		if block.Bytes, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
			t.Fatal(err)
		}
	}
	return encodeCert(der), pem.EncodeToMemory(block)
}

func TestLoadCA(t *testing.T) {
	own := newCA(t)
	pkcs1Cert, pkcs1Key := rsaCA(t, true)
	pkcs8Cert, pkcs8Key := rsaCA(t, false)
	for name, pair := range map[string][2][]byte{
		"own":                     {own.CertPEM(), own.KeyPEM()},
		"text around the blocks":  {append([]byte("Certificate:\n"), own.CertPEM()...), append([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"), own.KeyPEM()...)},
		"RSA from openssl genrsa": {pkcs1Cert, pkcs1Key},
		"RSA as PKCS 8":           {pkcs8Cert, pkcs8Key},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ca, err := LoadCA(put(t, filepath.Join(dir, "c"), pair[0]), put(t, filepath.Join(dir, "k"), pair[1]))
			if err != nil {
				t.Fatal(err)
			}
			certPEM, _, err := ca.IssueLeaf([]string{"r.example.com"}, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parse(t, certPEM).Verify(x509.VerifyOptions{Roots: ca.Pool(), DNSName: "r.example.com"}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLoadCA_Refuses(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	leafCert, leafKey, err := ca.IssueLeaf([]string{"a"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	encrypted := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})
	for name, c := range map[string]struct {
		cert, key  []byte
		file, says string
	}{
		"no certificate file":  {nil, ca.KeyPEM(), "rootCA.pem", "no such file"},
		"no key file":          {ca.CertPEM(), nil, "rootCA.key", "no such file"},
		"no certificate in it": {[]byte("hello"), ca.KeyPEM(), "rootCA.pem", "no certificate"},
		"broken certificate":   {encodeCert([]byte("x")), ca.KeyPEM(), "rootCA.pem", "cannot be read"},
		"no key in it":         {ca.CertPEM(), ca.CertPEM(), "rootCA.key", "no private key"},
		"key with passphrase":  {ca.CertPEM(), encrypted, "rootCA.key", "passphrase"},
		"key of another":       {ca.CertPEM(), other.KeyPEM(), "rootCA.key", "does not belong"},
		"a leaf":               {leafCert, leafKey, "rootCA.pem", "not one of a certificate authority"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			cert, key := filepath.Join(dir, "rootCA.pem"), filepath.Join(dir, "rootCA.key")
			if c.cert != nil {
				put(t, cert, c.cert)
			}
			if c.key != nil {
				put(t, key, c.key)
			}
			_, err := LoadCA(cert, key)
			if hint.Of(err) == "" {
				t.Fatalf("no hint in %v", err)
			}
			if !strings.HasPrefix(err.Error(), filepath.Join(dir, c.file)+": ") || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q, want one on %s about %q", err, c.file, c.says)
			}
		})
	}
}
