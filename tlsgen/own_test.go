package tlsgen

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// checkOwn is the judgment of a pair that is there already.
func checkOwn(certFile, keyFile, caFile string) (refused, doubtful error) {
	own, err := ReadOwn(certFile, keyFile)
	if err != nil {
		return err, nil
	}
	return own.CheckChain(caFile)
}

// The order of a file is that of whichever CA made it; a handshake has the server's own certificate
// first, and each is signed by the next.
func TestReadOwn_chainInAnyOrder(t *testing.T) {
	root := issue(t, "Site Root", nil, true)
	between := issue(t, "Site Issuing", root, true)
	stray := issue(t, "Other", nil, true)
	leaf := issue(t, "r", between, false, x509.ExtKeyUsageServerAuth)
	want := string(leaf.pem) + string(between.pem) + string(root.pem)
	for name, chain := range map[string][][]byte{
		"leaf first":    {leaf.pem, between.pem, root.pem},
		"leaf last":     {root.pem, between.pem, leaf.pem},
		"leaf between":  {between.pem, leaf.pem, root.pem},
		"issuers wrong": {leaf.pem, root.pem, between.pem},
		"with a stray":  {stray.pem, root.pem, leaf.pem, between.pem},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, nil, "r.example.com")
			put(t, o.CertFile, bytes.Join(chain, nil))
			put(t, o.KeyFile, leaf.keyPEM(t))
			own, err := ReadOwn(o.CertFile, o.KeyFile)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSuffix(string(own.CertPEM), string(stray.pem)); got != want {
				t.Errorf("the chain is\n%s", own.CertPEM)
			}
			roots := x509.NewCertPool()
			roots.AddCert(root.cert)
			state, err := dial(t, start(t, o), &tls.Config{ServerName: "r.example.com", RootCAs: roots})
			if err != nil || !state.PeerCertificates[1].Equal(between.cert) {
				t.Errorf("served: %v", err)
			}
		})
	}
	t.Run("a file in order stays as it is", func(t *testing.T) {
		text := "subject=r\n" + want
		own, err := ReadOwn(putFile(t, "c", []byte(text)), putFile(t, "k", leaf.keyPEM(t)))
		if err != nil || string(own.CertPEM) != text {
			t.Errorf("%v\n%s", err, own.CertPEM)
		}
	})
}

// pairFor returns a self-signed certificate of a key, and the key as openssl writes it.
func pairFor(t *testing.T, key crypto.Signer, kind string, encode func() ([]byte, error)) (cert, keyFile string) {
	t.Helper()
	template := *issue(t, "r", nil, false).cert
	template.PublicKey, template.SignatureAlgorithm = nil, 0
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := encode()
	if err != nil {
		t.Fatal(err)
	}
	return putFile(t, "ssl.cert", encodeCert(der)), putFile(t, "ssl.key", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: secret}))
}

func TestReadOwn_keys(t *testing.T) {
	ec := issue(t, "r", nil, false).key
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key    crypto.Signer
		kind   string
		encode func() ([]byte, error)
	}{
		"EC":           {ec, "EC PRIVATE KEY", func() ([]byte, error) { return x509.MarshalECPrivateKey(ec) }},
		"PKCS#1":       {private, "RSA PRIVATE KEY", func() ([]byte, error) { return x509.MarshalPKCS1PrivateKey(private), nil }},
		"PKCS#8":       {private, "PRIVATE KEY", func() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(private) }},
		"PKCS#8 of EC": {ec, "PRIVATE KEY", func() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(ec) }},
	} {
		t.Run(name, func(t *testing.T) {
			cert, key := pairFor(t, c.key, c.kind, c.encode)
			own, err := ReadOwn(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tls.X509KeyPair(own.CertPEM, own.KeyPEM); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestReadOwn_refuses(t *testing.T) {
	leaf, other := issue(t, "r", nil, false), issue(t, "r", nil, false)
	secret, err := x509.MarshalECPrivateKey(leaf.key)
	if err != nil {
		t.Fatal(err)
	}
	old := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret, Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}})
	sealed := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: secret})
	for name, c := range map[string]struct {
		key  []byte
		want string
	}{
		"the key of another":        {other.keyPEM(t), "do not make a pair"},
		"a passphrase":              {sealed, "protected by a passphrase"},
		"a passphrase, traditional": {old, "protected by a passphrase"},
		"no key":                    {leaf.pem, "no private key in PEM form"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadOwn(putFile(t, "ssl.cert", leaf.pem), putFile(t, "ssl.key", c.key))
			if err == nil || !strings.Contains(err.Error(), c.want) || hint.Of(err) == "" {
				t.Errorf("got %v, hint %q", err, hint.Of(err))
			}
		})
	}
}

func TestOwn_CheckTimeAndName(t *testing.T) {
	leaf := issue(t, "r", nil, false)
	own, err := ReadOwn(putFile(t, "ssl.cert", leaf.pem), putFile(t, "ssl.key", leaf.keyPEM(t)))
	if err != nil {
		t.Fatal(err)
	}
	ca := oldCA(t) // whose leaves may have a name in the subject alone
	bare := &Own{cert: &tls.Certificate{Leaf: ca.cert}}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"good":            {own.CheckTime(time.Now()), ""},
		"expired":         {own.CheckTime(time.Now().Add(2 * time.Hour)), "expired at"},
		"not yet":         {own.CheckTime(time.Now().Add(-2 * time.Hour)), "valid from"},
		"its name":        {own.CheckName("r.example.com"), ""},
		"another name":    {own.CheckName("s.example.com"), "not for s.example.com: it is for r.example.com"},
		"without a name":  {bare.CheckName("s.example.com"), "no host name"},
		"unknown on host": {own.CheckKnown(), "does not know the issuer"},
	} {
		if (c.err != nil) != (c.want != "") || c.err != nil && (!strings.Contains(c.err.Error(), c.want) || hint.Of(c.err) == "") {
			t.Errorf("%s: %v, want %q", name, c.err, c.want)
		}
	}
}
