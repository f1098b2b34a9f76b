//go:build e2e

package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/tlsgen"
)

// changesCertificates renews the certificate, rotates the CA, and puts the user's own in its place.
// The client goes on with what it trusts, as long as that is right.
func (b *box) changesCertificates(t *testing.T) {
	t.Helper()
	b.trust(t)
	old := b.clientCA(t)
	pid := func() string { return b.inside(t, "systemctl", "show", "-p", "MainPID", "appliance.service") }
	before, shown := pid(), b.inside(t, installed, "cert", "show")
	if renewed := b.inside(t, installed, "cert", "renew"); renewed == shown || !strings.Contains(renewed, boxHost) {
		t.Errorf("renewed:\n%s", renewed)
	}
	b.healthy(t)

	b.inside(t, installed, "cert", "rotate-ca")
	b.healthy(t) // with the old CA alone
	if pid() != before {
		t.Error("the service was restarted")
	}
	b.trust(t)
	if both := b.clientCA(t); strings.Count(both, "BEGIN CERTIFICATE") != 2 || !strings.HasPrefix(both, old) {
		t.Errorf("clients are given\n%s", both)
	}
	b.healthy(t)
	b.trustsDirectory(t)
	out := b.inside(t, installed, "cert", "rotate-ca", "--finish")
	b.healthy(t) // with both
	b.trust(t)
	b.healthy(t) // with the new one
	b.trustsDirectory(t)
	if pid() == before {
		t.Errorf("the service was not restarted:\n%s", out)
	}
	b.secretsOfCertificates(t)

	b.ownCertificate(t)
	b.fails(t, []string{"the certificate is your own"}, "exec", installed, "cert", "renew")
	b.fails(t, []string{"the certificate is your own"}, "exec", installed, "cert", "rotate-ca")
}

func (b *box) clientCA(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(b.certs(), "ca.crt"))
	must(t, err)
	return string(text)
}

// ownCertificate has a site's CA sign for the registry.
func (b *box) ownCertificate(t *testing.T) {
	t.Helper()
	ca, err := tlsgen.CreateCA("the site's CA", time.Now())
	must(t, err)
	cert, key, err := ca.IssueLeaf([]string{boxHost}, time.Now())
	must(t, err)
	dir := t.TempDir()
	for name, text := range map[string][]byte{"own.pem": cert, "own.key": key} {
		must(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
		b.must(t, "push", filepath.Join(dir, name), "/run/"+name)
	}
	replace := []string{installed, "cert", "replace", "--sslCert", "/run/own.pem", "--sslKey", "/run/own.key"}
	b.inside(t, replace...)
	must(t, os.WriteFile(filepath.Join(b.certs(), "ca.crt"), ca.CertPEM(), 0o600))
	b.healthy(t)
	if out := b.inside(t, replace...); !strings.Contains(out, "nothing had to be changed") {
		t.Errorf("typed again, it says:\n%s", out)
	}
	b.secretsOfCertificates(t)
}

// secretsOfCertificates fails if users of the host other than the service can read a key.
func (b *box) secretsOfCertificates(t *testing.T) {
	t.Helper()
	const root = "/root/quay-install"
	if open := b.inside(t, "find", "-L", root+"/quay-config", root+"/quay-rootCA", root+"/tls-state", "-name", "*.key", "-perm", "/007"); open != "" {
		t.Errorf("others may read:\n%s", open)
	}
	if left := b.inside(t, "find", root+"/quay-rootCA", "-name", "*next*"); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}
