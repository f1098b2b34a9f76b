package upstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// A registry at the port of HTTPS has two names.
func TestCertDirs_withAndWithoutThePort(t *testing.T) {
	for _, all := range [][]string{certDirs("registry.example.com"), certDirs("registry.example.com:443")} {
		for _, want := range []string{"/etc/containers/certs.d/registry.example.com", "/etc/containers/certs.d/registry.example.com:443"} {
			if !slices.Contains(all, want) {
				t.Errorf("certificates are read from %q, not from %s", all, want)
			}
		}
	}
}

func TestTrustFiles_ofTheFirstDirectory(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	usual := filepath.Join(home, ".config/containers/certs.d/registry.example.com:8443")
	named := t.TempDir()
	if err := os.MkdirAll(usual, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := TrustFiles(named, "registry.example.com:8443"); err == nil || hint.Of(err) == "" {
		t.Errorf("a directory without a certificate: %v", err)
	}
	for _, dir := range []string{usual, named} {
		if err := os.WriteFile(filepath.Join(dir, "ca.crt"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for dir, want := range map[string]string{"": usual, named: named} {
		files, err := TrustFiles(dir, "registry.example.com:8443")
		if err != nil || !slices.Equal(files.CAs, []string{filepath.Join(want, "ca.crt")}) {
			t.Errorf("%q: %v, %v", dir, files, err)
		}
	}
}

func TestTLSConfig_refuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{file: "no PEM certificate in it", file + ".none": "no such file or directory"} {
		_, err := TLSConfig(Trust{CAs: []string{name}}, false)
		if err == nil || err.Error() != "CA file "+name+": "+want || !strings.Contains(hint.Of(err), "BEGIN CERTIFICATE") {
			t.Errorf("error %v", err)
		}
	}
}

// The certificates of this client are the registry's alone.
func TestClient_showsItsCertificate(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	f := prepare(t)
	f.server = httptest.NewUnstartedServer(f)
	f.server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	f.server.StartTLS()
	t.Cleanup(f.server.Close)
	storage := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) > 0 {
			t.Error("the target of a redirect saw the certificate")
		}
		_, _ = w.Write(f.layer)
	}))
	storage.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	storage.StartTLS()
	t.Cleanup(storage.Close)
	f.fault = redirecting("/blobs/", storage.URL)
	dir := filepath.Join(home, ".config/containers/certs.d", f.host())
	cert, key := clientCertificate(t)
	write(t, filepath.Join(dir, "client.cert"), cert)
	write(t, filepath.Join(dir, "client.key"), key)
	files, err := TrustFiles("", f.host())
	if err != nil {
		t.Fatal(err)
	}
	c := f.client(t, func(o *Options) { o.Trust, o.SkipVerify = files, true })
	if _, err := readBlob(t.Context(), c, f.blob); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "client.cert"), "x")
	if files, err = TrustFiles("", f.host()); err != nil {
		t.Fatal(err)
	}
	if _, err := TLSConfig(files, false); err == nil || !strings.Contains(err.Error(), "client.cert") || hint.Of(err) == "" {
		t.Errorf("a certificate that is none: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "client.cert")); err != nil {
		t.Fatal(err)
	}
	if _, err := TrustFiles("", f.host()); err == nil || !strings.Contains(err.Error(), "there is no client.cert beside it") {
		t.Errorf("a key alone: %v", err)
	}
}

// TestClient_whoseCertificateIsRefused has the registry end the handshake.
func TestClient_whoseCertificateIsRefused(t *testing.T) {
	for name, with := range map[string]bool{"none": false, "one of a CA that it does not trust": true} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			f := prepare(t)
			f.server = httptest.NewUnstartedServer(f)
			f.server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, MaxVersion: version}
			f.server.StartTLS()
			t.Cleanup(f.server.Close)
			var trust Trust
			if with {
				cert, key := clientCertificate(t)
				trust.Clients = []string{filepath.Join(t.TempDir(), "client.cert")}
				write(t, trust.Clients[0], cert)
				write(t, strings.TrimSuffix(trust.Clients[0], "cert")+"key", key)
			}
			c := f.client(t, func(o *Options) { o.Trust, o.SkipVerify, o.PlainHTTP, o.Serving = trust, true, false, true })
			_, _, err := c.Manifest(t.Context(), repo, "v1")
			if e := asError(t, err); e.Kind() != "tls" || !strings.Contains(e.Hint(), "certDir of the upstream") {
				t.Errorf("%s, TLS %x: %s: %v\nhint: %s", name, version, e.Kind(), e, e.Hint())
			}
		}
	}
}

// clientCertificate returns a certificate and its key.
func clientCertificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}
