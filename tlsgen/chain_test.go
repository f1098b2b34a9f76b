package tlsgen

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
)

// signed is a certificate as a site's own PKI makes it, and what it can sign with.
type signed struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func issue(t *testing.T, name string, by *signed, isCA bool, uses ...x509.ExtKeyUsage) *signed {
	t.Helper()
	return issueAt(t, time.Now(), name, by, isCA, uses...)
}

// issueAt is issue for a certificate that is valid for an hour before and after a time.
func issueAt(t *testing.T, at time.Time, name string, by *signed, isCA bool, uses ...x509.ExtKeyUsage) *signed {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"r.example.com"}, ExtKeyUsage: uses,
		NotBefore: at.Add(-time.Hour), NotAfter: at.Add(time.Hour), BasicConstraintsValid: true, IsCA: isCA,
	}
	s := &signed{key: key}
	if by == nil {
		by = &signed{cert: template, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	if s.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	s.pem = encodeCert(der)
	return s
}

func putFile(t *testing.T, name string, parts ...[]byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, bytes.Join(parts, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func (s *signed) keyPEM(t *testing.T) []byte {
	t.Helper()
	out, err := certmagic.PEMEncodePrivateKey(s.key)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestOwn_CheckChain(t *testing.T) {
	root := issue(t, "Site Root", nil, true)
	between := issue(t, "Site Issuing", root, true)
	other := issue(t, "Other Root", nil, true)
	leaf := issue(t, "r", between, false, x509.ExtKeyUsageServerAuth)
	direct := issue(t, "r", root, false)
	client := issue(t, "r", between, false, x509.ExtKeyUsageClientAuth)
	both := issue(t, "r", between, false, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth)
	code := issue(t, "r", between, false, x509.ExtKeyUsageCodeSigning)
	anything := issue(t, "r", between, false, x509.ExtKeyUsageAny)
	alone := issue(t, "r", nil, false)
	namesake := issue(t, "Site Issuing", root, true)
	old := time.Now().AddDate(-1, 0, 0)
	oldRoot := issueAt(t, old, "Old Root", nil, true)
	expired := issueAt(t, old, "r", oldRoot, false)
	bom := []byte("\xef\xbb\xbf")
	tests := map[string]struct {
		of                *signed
		chain             [][]byte
		ca                []byte
		refused, doubtful string
	}{
		"a whole chain":                        {leaf, [][]byte{leaf.pem, between.pem}, root.pem, "", ""},
		"with the root":                        {leaf, [][]byte{leaf.pem, between.pem, root.pem}, nil, "", ""},
		"signed by the root":                   {direct, [][]byte{direct.pem}, root.pem, "", ""},
		"for clients too":                      {both, [][]byte{both.pem, between.pem}, root.pem, "", ""},
		"self-signed":                          {alone, [][]byte{alone.pem}, nil, "", ""},
		"a missing intermediate":               {leaf, [][]byte{leaf.pem}, root.pem, "incomplete: the certificate of the issuer \"CN=Site Issuing\" is missing", ""},
		"a missing intermediate, root unknown": {leaf, [][]byte{leaf.pem}, nil, "", "incomplete: the certificate of the issuer \"CN=Site Issuing\" is missing"},
		"an unknown root":                      {leaf, [][]byte{leaf.pem, between.pem}, nil, "", "issuer \"CN=Site Root\" is missing"},
		"another CA":                           {leaf, [][]byte{leaf.pem, between.pem, root.pem}, other.pem, "not signed by the CA in", ""},
		"for anything":                         {anything, [][]byte{anything.pem, between.pem}, root.pem, "", ""},
		"for clients only":                     {client, [][]byte{client.pem, between.pem}, root.pem, "for clients only", ""},
		"for signing code":                     {code, [][]byte{code.pem, between.pem}, root.pem, "for something else than servers", ""},
		"a byte order mark":                    {leaf, [][]byte{bom, leaf.pem, between.pem}, root.pem, "byte order mark", ""},
		"a byte order mark in the CA":          {leaf, [][]byte{leaf.pem, between.pem}, append(bytes.Clone(bom), root.pem...), "byte order mark", ""},
		"UTF-16":                               {leaf, [][]byte{[]byte("\xff\xfe-\x00")}, root.pem, "the file is UTF-16 text", ""},
		"UTF-16 of the other order":            {leaf, [][]byte{[]byte("\xfe\xff\x00-")}, root.pem, "the file is UTF-16 text", ""},
		"an intermediate of the same name":     {leaf, [][]byte{leaf.pem, namesake.pem}, nil, "", "issuer \"CN=Site Issuing\" is missing"},
		"a chain that has expired":             {expired, [][]byte{expired.pem}, oldRoot.pem, "", ""},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			ca := ""
			if c.ca != nil {
				ca = putFile(t, "ca.pem", c.ca)
			}
			refused, doubtful := checkOwn(putFile(t, "ssl.cert", c.chain...), putFile(t, "ssl.key", c.of.keyPEM(t)), ca)
			for _, e := range []struct {
				err  error
				want string
			}{{refused, c.refused}, {doubtful, c.doubtful}} {
				if (e.err != nil) != (e.want != "") || e.err != nil && !strings.Contains(e.err.Error(), e.want) {
					t.Errorf("refused: %v, doubtful: %v; want %q, %q", refused, doubtful, c.refused, c.doubtful)
				}
			}
		})
	}
	t.Run("a byte order mark in the key", func(t *testing.T) {
		refused, _ := checkOwn(putFile(t, "ssl.cert", leaf.pem), putFile(t, "ssl.key", bom, leaf.keyPEM(t)), "")
		if refused == nil || !strings.Contains(refused.Error(), "byte order mark") || !strings.Contains(refused.Error(), "ssl.key") {
			t.Errorf("refused: %v", refused)
		}
	})
}

// The daemon serves what it has, since no registry is worse, and says in its log why
// clients will refuse it.
func TestManager_OwnCertificateThatClientsRefuse(t *testing.T) {
	root := issue(t, "Site Root", nil, true)
	between := issue(t, "Site Issuing", root, true)
	client := issue(t, "r", between, false, x509.ExtKeyUsageClientAuth)
	var log bytes.Buffer
	m, err := NewManager(context.Background(), Options{
		Names: []string{"r.example.com"}, CertFile: putFile(t, "ssl.cert", client.pem), KeyFile: putFile(t, "ssl.key", client.keyPEM(t)),
		CAFile: putFile(t, "ca.pem", root.pem), Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"for clients only", "chain is incomplete"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, &log)
		}
	}
}

func TestCreateCA_longName(t *testing.T) {
	if _, err := CreateCA(strings.Repeat("a", 65), time.Now()); err == nil {
		t.Error("a common name of 65 characters was made")
	}
	if _, err := CreateCA(strings.Repeat("a", 64), time.Now()); err != nil {
		t.Error(err)
	}
}
