package registry_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

// guarded is an upstream that wants a client's certificate, and the directory of certificates for it.
type guarded struct {
	*httptest.Server
	dir string
}

func newGuarded(t *testing.T) *guarded {
	t.Helper()
	g := &guarded{Server: httptest.NewUnstartedServer(http.HandlerFunc(anyManifest)), dir: filepath.Join(t.TempDir(), "certs")}
	g.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	g.StartTLS()
	t.Cleanup(g.Close)
	g.fill(t)
	return g
}

// anyManifest serves a manifest of its own for each path.
func anyManifest(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/v2/" {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		fmt.Fprintf(w, `{"schemaVersion":2,"mediaType":%q,"manifests":[],"annotations":{"path":%q}}`, ocispec.MediaTypeImageIndex, r.URL.Path)
	}
}

// fill makes the directory anew, with what the upstream wants.
func (g *guarded) fill(t *testing.T) {
	t.Helper()
	must(t, os.RemoveAll(g.dir))
	must(t, os.Mkdir(g.dir, 0o700))
	cert, key := clientPair(t, time.Hour)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: g.Certificate().Raw})
	for name, content := range map[string][]byte{"ca.crt": ca, "client.cert": cert, "client.key": key} {
		must(t, os.WriteFile(filepath.Join(g.dir, name), content, 0o600))
	}
}

// clientPair returns a certificate that is good for d, and its key.
func clientPair(t *testing.T, d time.Duration) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(d)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// badFile is what is wrong with a directory of certificates, and what is reported of it.
type badFile struct {
	put        func(dir string) error
	text, hint string
}

func badFiles(t *testing.T) map[string]badFile {
	write := func(name, content string) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600) }
	}
	instead := func(name string, put func(path string) error) func(string) error {
		return func(dir string) error {
			must(t, os.RemoveAll(filepath.Join(dir, name)))
			return put(filepath.Join(dir, name))
		}
	}
	fifo := func(path string) error { return unix.Mkfifo(path, 0o600) }
	nothing := func(string) error { return nil }
	_, other := clientPair(t, time.Hour)
	return map[string]badFile{
		"a CA that is text":               {write("ca.crt", "no PEM"), "CA file", "BEGIN CERTIFICATE"},
		"a CA that is a FIFO":             {instead("ca.crt", fifo), "not a regular file", "BEGIN CERTIFICATE"},
		"a CA that cannot be read":        {instead("ca.crt", func(p string) error { return os.Symlink(p, p) }), "too many levels of symbolic links", "BEGIN CERTIFICATE"},
		"the key of another":              {write("client.key", string(other)), "does not match", "put the key of this certificate beside it"},
		"no key":                          {instead("client.key", nothing), "client.key: no such file", "readable"},
		"a key without a certificate":     {instead("client.cert", nothing), "there is no client.cert beside it", "under that name"},
		"a key that is encrypted":         {write("client.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), "it is encrypted", "openssl pkey -in"},
		"a certificate that is text":      {write("client.cert", "no PEM"), "client certificate", "PEM form"},
		"a certificate that is a FIFO":    {instead("client.cert", fifo), "not a regular file", "readable"},
		"a key that is a directory":       {instead("client.key", func(p string) error { return os.Mkdir(p, 0o700) }), "not a regular file", "readable"},
		"a directory that is not there":   {instead("", nothing), "no such file or directory", "name a directory"},
		"a directory that is a FIFO":      {instead("", fifo), "not a directory", "name a directory"},
		"a directory without certificate": {instead("", func(p string) error { return os.Mkdir(p, 0o700) }), "no certificate in", "as *.crt"},
	}
}

// TestPull_certificatesThatCannotBeUsed has one upstream with files that are of no use: it alone is out of
// service, until they are mended.
func TestPull_certificatesThatCannotBeUsed(t *testing.T) {
	g := newGuarded(t)
	well := httptest.NewServer(http.HandlerFunc(anyManifest))
	defer well.Close()
	r := start(t, func(c *config.Config) {
		c.Upstreams = []config.Upstream{{Prefix: "up", URL: g.URL, CertDir: g.dir}, {Prefix: "well", URL: well.URL}}
	})
	n := 0
	for name, bad := range badFiles(t) {
		n++
		t.Run(name, func(t *testing.T) {
			pull := func(what string, status int) answered {
				t.Helper()
				a := r.pulls(t, fmt.Sprintf("/v2/%s%d", what, n))
				if a.status != status {
					t.Errorf("%s: %d %s, want %d", what, a.status, a.body, status)
				}
				return a
			}
			g.fill(t)
			r = r.restart(t)
			pull("up/held/manifests/v", http.StatusOK)
			must(t, bad.put(g.dir))
			s := r.only(t)
			if s.State != api.UpstreamInService || !strings.Contains(s.Trouble, "until a restart") {
				t.Errorf("while what was read before is in use: %+v", s)
			}
			pull("up/before/manifests/v", http.StatusOK)

			r = r.restart(t)
			pull("up/held/manifests/v", http.StatusOK)
			pull("well/image/manifests/v", http.StatusOK)
			a := pull("up/new/manifests/v", http.StatusBadGateway)
			if d := a.error.Detail; d.Reason != "tls" || !strings.Contains(a.body, bad.text) || !strings.Contains(d.Hint, bad.hint) {
				t.Errorf("a pull: %s", a.body)
			}
			r.reports(t, bad)

			g.fill(t)
			pull("up/new/manifests/v", http.StatusOK)
			if s := r.only(t); s.State != api.UpstreamInService || s.Trouble != "" {
				t.Errorf("once it is mended: %+v", s)
			}
		})
	}
}

// only returns the first of the upstreams.
func (r *running) only(t *testing.T) api.Upstream {
	t.Helper()
	all, err := r.admin.Upstreams(t.Context())
	must(t, err)
	return all[0]
}

// reports checks that what is wrong with the first upstream is seen everywhere.
func (r *running) reports(t *testing.T, bad badFile) {
	t.Helper()
	if u := r.only(t); u.State != api.UpstreamOutOfService || !strings.Contains(u.Trouble, bad.text) || !strings.Contains(u.Hint, bad.hint) {
		t.Errorf("the list has %+v", u)
	}
	s, err := r.admin.Status(t.Context())
	must(t, err)
	if len(s.Trouble) != 1 || !s.Healthy || !strings.HasPrefix(s.Trouble[0].Problem, "upstream up is out of service: ") || !strings.Contains(s.Trouble[0].Hint, bad.hint) {
		t.Errorf("healthy %t, trouble %+v", s.Healthy, s.Trouble)
	}
	all, err := r.admin.TestUpstreams(t.Context(), api.UpstreamTest{})
	must(t, err)
	if !strings.Contains(all[0].Error, bad.text) || !strings.Contains(all[0].Hint, bad.hint) || all[1].Error != "" {
		t.Errorf("the test of upstreams has %+v", all)
	}
	if log := r.log.String(); !strings.Contains(log, "out of service") || !strings.Contains(log, bad.text) {
		t.Errorf("it logs\n%s", log)
	}
}

// TestPull_certificateThatHasExpired is named before the upstream refuses it.
func TestPull_certificateThatHasExpired(t *testing.T) {
	g := newGuarded(t)
	cert, key := clientPair(t, -time.Minute)
	must(t, os.WriteFile(filepath.Join(g.dir, "client.cert"), cert, 0o600))
	must(t, os.WriteFile(filepath.Join(g.dir, "client.key"), key, 0o600))
	r := start(t, func(c *config.Config) { c.Upstreams = []config.Upstream{{Prefix: "up", URL: g.URL, CertDir: g.dir}} })
	if a := r.pulls(t, "/v2/up/image/manifests/v1"); a.status != http.StatusOK {
		t.Errorf("an upstream that does not mind: %d %s", a.status, a.body)
	}
	if u := r.only(t); u.State != api.UpstreamInService || !strings.Contains(u.Trouble, "client.cert: it has expired on ") || !strings.Contains(u.Hint, "renewed") {
		t.Errorf("the list has %+v", u)
	}
}

// TestStatus_upstreamThatDoesNotAnswer shows the upstreams that are left alone.
func TestStatus_upstreamThatDoesNotAnswer(t *testing.T) {
	down := httptest.NewServer(http.HandlerFunc(anyManifest))
	down.Close()
	r := start(t, func(c *config.Config) { c.Upstreams = []config.Upstream{{Prefix: "up", URL: down.URL}} })
	if u := r.only(t); u.State != api.UpstreamInService {
		t.Errorf("before it was asked: %+v", u)
	}
	r.pulls(t, "/v2/up/image/manifests/v1")
	if u := r.only(t); u.State != api.UpstreamNoAnswer || !strings.Contains(u.Trouble, "connection refused") || !strings.Contains(u.Hint, "nothing listens there") {
		t.Errorf("the list has %+v", u)
	}
	s, err := r.admin.Status(t.Context())
	must(t, err)
	if len(s.Trouble) != 1 || !strings.HasPrefix(s.Trouble[0].Problem, "upstream up: "+down.Listener.Addr().String()+" did not answer, and is asked again in ") {
		t.Errorf("trouble %+v", s.Trouble)
	}
	_, err = r.admin.SetOffline(t.Context(), true)
	must(t, err)
	if u := r.only(t); u.State != api.UpstreamInService {
		t.Errorf("offline: %+v", u)
	}
}
