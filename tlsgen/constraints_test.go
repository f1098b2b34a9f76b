package tlsgen

import (
	"crypto/x509"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func constrained(t *testing.T, names ...string) *CA {
	t.Helper()
	ca, err := CreateCA("test root", time.Now(), names...)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestCreateCA_isNameConstrained(t *testing.T) {
	host := constrained(t, "Registry.example.com", "localhost")
	address := constrained(t, "10.1.2.3", "localhost")
	only := constrained(t, "10.1.2.3")
	cert := parse(t, host.CertPEM())
	if want := []string{"registry.example.com", "localhost"}; !cert.PermittedDNSDomainsCritical || !slices.Equal(cert.PermittedDNSDomains, want) {
		t.Errorf("critical %v, names %q", cert.PermittedDNSDomainsCritical, cert.PermittedDNSDomains)
	}
	openssl, _ := exec.LookPath("openssl")
	for _, c := range []struct {
		ca      *CA
		name    string
		refused bool
	}{
		{newCA(t), "bank.example.net", false}, // of an install before: it goes on
		{host, "registry.example.com", false},
		{host, "localhost", false},
		{host, "example.com", true},
		{host, "bank.example.net", true},
		{host, "10.1.2.3", true},
		{host, "127.0.0.1", true},
		{host, "::1", true},
		{address, "10.1.2.3", false},
		{address, "localhost", false},
		{address, "10.1.2.2", true},
		{address, "10.1.2.4", true},
		{address, "::1", true},
		{address, "registry.example.com", true},
		{only, "10.1.2.3", false},
		{only, "localhost", true},
	} {
		if got := len(c.ca.Refuses([]string{c.name})) > 0; got != c.refused {
			t.Errorf("%q for %s: refused %v", namesOfCA(c.ca), c.name, got)
		}
		chain, _, err := c.ca.IssueLeaf([]string{c.name}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		_, err = parse(t, chain).Verify(x509.VerifyOptions{Roots: c.ca.Pool(), DNSName: c.name})
		if (err != nil) != c.refused {
			t.Errorf("%q for %s: Go says %v", namesOfCA(c.ca), c.name, err)
		}
		if openssl == "" {
			continue
		}
		dir := t.TempDir()
		root, leaf := put(t, filepath.Join(dir, "root.pem"), c.ca.CertPEM()), put(t, filepath.Join(dir, "leaf.pem"), chain)
		out, err := exec.CommandContext(t.Context(), openssl, "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", root, leaf).CombinedOutput()
		if (err != nil) != c.refused {
			t.Errorf("%q for %s: openssl says %v: %s", namesOfCA(c.ca), c.name, err, out)
		}
	}
}

func namesOfCA(ca *CA) []string { return ca.permitted() }
