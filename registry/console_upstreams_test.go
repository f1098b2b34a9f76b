package registry_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// wants fails for what a page lacks of some texts.
func (s *surfer) wants(t *testing.T, path string, texts ...string) (body string) {
	t.Helper()
	code, _, body := s.get(t, path)
	if code != http.StatusOK {
		t.Errorf("%s is answered with %d", path, code)
	}
	contains(t, path, body, texts...)
	return body
}

func contains(t *testing.T, what, body string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(body, text) {
			t.Errorf("%s lacks %q:\n%s", what, text, body)
		}
	}
}

func TestConsole_upstreams(t *testing.T) {
	const hostile = `<script>alert("upstream")</script>`
	image := []byte(`{"schemaVersion":2,"manifests":[]}`)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v2/":
		case "/v2/image/manifests/v1":
			w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			_, _ = w.Write(image)
		default:
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"errors":[{"code":"DENIED","message":"<script>alert(\"upstream\")</script>"}]}`))
		}
	}))
	defer upstream.Close()
	r := start(t, func(c *config.Config) {
		c.Upstreams = []config.Upstream{{Prefix: "up", URL: upstream.URL, Freshness: time.Hour},
			{Prefix: "held", URL: "https://held.invalid", Mode: config.ModeMirroredOnly}, {Prefix: "lost", URL: "https://lost.invalid", CA: "/none/ca.pem"}}
	})
	s := r.logIn(t, "admin")
	s.wants(t, "/upstreams", "no pulls yet", "mirrored only", "Out of service", "upstream lost is out of service", ">1h<", "The registry asks other hosts.")

	for range 4 {
		if a := r.pulls(t, "/v2/up/image/manifests/v1"); a.status != http.StatusOK {
			t.Fatalf("a pull: %d %s", a.status, a.body)
		}
	}
	if a := r.pulls(t, "/v2/up/image/manifests/"+digest.FromBytes(image).String()); a.status != http.StatusOK {
		t.Fatalf("a pull by digest: %d %s", a.status, a.body)
	}
	s.wants(t, "/upstreams", "80 % of 5", "0 of ")
	r.pulls(t, "/v2/up/secret/manifests/v1")
	if body := s.wants(t, "/upstreams", "1 of "); strings.Contains(body, hostile) {
		t.Error("the answer of an upstream is part of the page")
	}

	code, at, body := s.send(t, "/upstreams", "/upstreams/test", url.Values{"prefix": {"up"}})
	if contains(t, "a test", body, "It answers", "no login"); code != http.StatusOK || at != "/upstreams/test" || strings.Contains(body, "held.invalid</div></div></td>\n        <td") {
		t.Errorf("a test of one: %d %s", code, at)
	}
	_, _, body = s.send(t, "/upstreams", "/upstreams/test", url.Values{"prefix": {""}})
	contains(t, "a test of all", body, "It answers", "Failed", "/none/ca.pem")
	_, _, body = s.send(t, "/upstreams", "/upstreams/test", url.Values{"prefix": {"held"}, "image": {"up/image:v1"}})
	contains(t, "a test with an image", body, "image v1", "It answers")
	code, _, body = s.send(t, "/upstreams", "/upstreams/test", url.Values{"image": {"up/" + hostile + ":v1"}})
	if contains(t, "a test with a hostile image", body, "&lt;script&gt;"); strings.Contains(body, hostile) || code != http.StatusOK {
		t.Errorf("a test with a hostile image: %d", code)
	}
	code, _, body = s.send(t, "/upstreams", "/upstreams/test", url.Values{"image": {"elsewhere/image"}})
	if contains(t, "a test of nothing", body, "elsewhere/image is below no upstream"); code != http.StatusBadRequest {
		t.Errorf("a test of nothing: %d", code)
	}

	code, at, body = s.send(t, "/upstreams", "/upstreams/link", url.Values{"offline": {"true"}})
	if contains(t, "offline", body, "The registry is offline", "Go online", "Not asked"); code != http.StatusOK || at != "/upstreams" {
		t.Errorf("offline: %d %s", code, at)
	}
	if link, err := r.admin.Offline(t.Context()); err != nil || !link.Offline {
		t.Errorf("the link is %+v, %v", link, err)
	}
	_, _, body = s.send(t, "/upstreams", "/upstreams/link", url.Values{"offline": {"false"}})
	contains(t, "online again", body, "asks other hosts again", "Go offline")
}

// An upstream that takes the connection and answers nothing is told in words, and with what to do.
func TestConsole_upstreams_silent(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	registry.LimitUpstreamTests(t, 100*time.Millisecond)
	r := start(t, func(c *config.Config) {
		c.Upstreams = []config.Upstream{{Prefix: "silent", URL: "http://" + listener.Addr().String()}}
	})
	_, _, body := r.logIn(t, "admin").send(t, "/upstreams", "/upstreams/test", url.Values{"prefix": {"silent"}})
	if contains(t, "a test", body, listener.Addr().String()+" gives no answer within 100ms", "check the network to it"); strings.Contains(body, "context deadline") {
		t.Error(body)
	}
}

func TestConsole_upstreams_none(t *testing.T) {
	r := start(t)
	r.logIn(t, "admin").wants(t, "/upstreams", "Nothing is pulled through", "appliance upstream add quay.io", "Go offline")
}

func TestConsole_certificates(t *testing.T) {
	r := start(t)
	s := r.logIn(t, "admin")
	before, err := r.admin.Certificate(t.Context())
	must(t, err)
	s.wants(t, "/certificates", before.Fingerprint, before.CA[0].Fingerprint, "registry.test, localhost", "renews by itself", "days left",
		`href="/ca.crt"`, "/etc/containers/certs.d/"+r.cfg.Address()+"/ca.crt", "update-ca-trust")
	code, at, body := s.send(t, "/certificates", "/certificates/renew", url.Values{})
	after, err := r.admin.Certificate(t.Context())
	must(t, err)
	if contains(t, "a renewal", body, "The certificate is renewed.", after.Fingerprint); code != http.StatusOK || at != "/certificates" || before.Fingerprint == after.Fingerprint {
		t.Errorf("a renewal: %d %s", code, at)
	}

	// A rotation that is not finished.
	old, err := os.ReadFile(r.cfg.TLS.CA)
	must(t, err)
	next, err := tlsgen.CreateCA(`next"><script>`, time.Now())
	must(t, err)
	must(t, os.WriteFile(r.cfg.TLS.CA, append(old, next.CertPEM()...), 0o600))
	must(t, os.WriteFile(tlsgen.NextKeyFile(r.cfg.TLS.CAKey), next.KeyPEM(), 0o600))
	if body := s.wants(t, "/certificates", "rotate-ca --finish", "rotate-ca --abort", "signs the certificate", "the CA is being replaced", "The CAs that clients trust"); strings.Contains(body, "<script>") {
		t.Error("the subject of a certificate is part of the page")
	}
}

// Of a user's own certificate, and of one that an ACME server has to issue, something else is true.
func TestConsole_certificates_ofOthers(t *testing.T) {
	own := start(t)
	own.cfg.TLS.CAKey, own.cfg.TLS.State = "", ""
	own = own.restart(t)
	s := own.logIn(t, "admin")
	if body := s.wants(t, "/certificates", "It is yours, and does not renew by itself", "appliance cert replace"); strings.Contains(body, `action="/certificates/renew"`) {
		t.Error("a renewal of the user's own certificate is offered")
	}
	if code, _, _ := s.send(t, "/certificates", "/certificates/renew", url.Values{}); code < 400 {
		t.Errorf("a renewal of the user's own: %d", code)
	}
	acme := start(t, func(c *config.Config) { c.TLS.ACME.Directory = "https://127.0.0.1:1/directory" })
	acme.logIn(t, "admin").wants(t, "/certificates", "until the ACME server https://127.0.0.1:1/directory has issued one")
}
