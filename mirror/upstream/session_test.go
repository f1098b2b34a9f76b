package upstream

import (
	"cmp"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
)

type keys struct{ authn.Authenticator }

func (k keys) Resolve(authn.Resource) (authn.Authenticator, error) { return k.Authenticator, nil }

func password(user, secret string) func(*Options) {
	return func(o *Options) { o.Keychain = keys{&authn.Basic{Username: user, Password: secret}} }
}

func TestClient_basicAuthentication(t *testing.T) {
	guard := func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if user, pw, _ := r.BasicAuth(); user == "ann" && pw == "s3cret" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}`))
		return true
	}
	t.Run("right", func(t *testing.T) {
		f := newFixture(t)
		f.fault = guard
		if _, _, err := f.client(t, password("ann", "s3cret")).Manifest(t.Context(), repo, "v1"); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("wrong", func(t *testing.T) {
		f := newFixture(t)
		f.fault = guard
		_, _, err := f.client(t, password("ann", "hunter2")).Manifest(t.Context(), repo, "v1")
		e := asError(t, err)
		wantText(t, e.Error(), f.host(), repo, "401 Unauthorized", "UNAUTHORIZED", "who are you")
		wantText(t, e.Hint(), "refused", "podman login "+f.host(), "--authfile")
		if strings.Contains(e.Error()+e.Hint(), "hunter2") {
			t.Error("the error has the password")
		}
	})
	t.Run("none", func(t *testing.T) {
		f := newFixture(t)
		f.fault = guard
		_, _, err := f.client(t).Manifest(t.Context(), repo, "v1")
		wantText(t, asError(t, err).Hint(), "no credentials were found", "podman login "+f.host())
	})
	t.Run("wrong, then corrected", func(t *testing.T) {
		f := newFixture(t)
		f.fault = guard
		k := &keys{&authn.Basic{Username: "ann", Password: "old"}}
		c := f.client(t, func(o *Options) { o.Keychain = k })
		if _, _, err := c.Manifest(t.Context(), repo, "v1"); err == nil {
			t.Fatal("an old password was accepted")
		}
		k.Authenticator = &authn.Basic{Username: "ann", Password: "s3cret"}
		if _, _, err := c.Manifest(t.Context(), repo, "v1"); err != nil {
			t.Fatal(err)
		}
	})
}

// A tokenServer protects a fixture with bearer tokens, as Docker Hub and Quay do.
type tokenServer struct {
	f      *fixture
	mu     sync.Mutex
	issued int
	valid  string
	scopes []string
	// password is the one that is taken, s3cret if it is empty.
	password string
}

func (s *tokenServer) fault(w http.ResponseWriter, r *http.Request, _ int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.URL.Path == "/token" {
		s.token(w, r)
		return true
	}
	if s.valid != "" && r.Header.Get("Authorization") == "Bearer "+s.valid {
		return false
	}
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="reg",scope="repository:%s:pull"`, s.f.server.URL, repo))
	w.WriteHeader(http.StatusUnauthorized)
	return true
}

func (s *tokenServer) token(w http.ResponseWriter, r *http.Request) {
	if user, pw, _ := r.BasicAuth(); user != "ann" || pw != cmp.Or(s.password, "s3cret") {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	s.issued++
	s.valid = fmt.Sprintf("token-%d", s.issued)
	s.scopes = r.URL.Query()["scope"]
	fmt.Fprintf(w, `{"access_token":%q}`, s.valid)
}

func TestClient_bearerTokens(t *testing.T) {
	f := newFixture(t)
	s := &tokenServer{f: f}
	f.fault = s.fault
	c := f.client(t, password("ann", "s3cret"))
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if _, _, err := c.Manifest(t.Context(), repo, "v1"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if pings := f.counts["GET /v2/"]; pings != 1 || s.issued != 1 {
		t.Errorf("%d pings and %d tokens for one repository", pings, s.issued)
	}
	if got := strings.Join(s.scopes, " "); got != "repository:"+repo+":pull" {
		t.Errorf("asked for the scope %q", got)
	}
	t.Run("are renewed", func(t *testing.T) {
		s.mu.Lock()
		s.valid = ""
		s.mu.Unlock()
		if _, err := readBlob(t.Context(), c, f.blob); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("are refused with the reason", func(t *testing.T) {
		_, _, err := f.client(t, password("ann", "hunter2")).Manifest(t.Context(), repo, "v1")
		e := asError(t, err)
		wantText(t, e.Error(), "log in", "401")
		wantText(t, e.Hint(), "podman login")
		if strings.Contains(e.Error(), "hunter2") {
			t.Error("the error has the password")
		}
	})
}

func TestClient_tokenServersAnswerStaysPrivate(t *testing.T) {
	f := newFixture(t)
	f.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.URL.Path == "/token" {
			_, _ = w.Write([]byte(`{"refresh_token":"s3cret"}`))
			return true
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token"`, f.server.URL))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	_, _, err := f.client(t).Manifest(t.Context(), repo, "v1")
	e := asError(t, err)
	wantText(t, e.Error(), "no token")
	if strings.Contains(e.Error(), "s3cret") {
		t.Errorf("got %v", e)
	}
}

func TestClient_leavesCredentialsBehind(t *testing.T) {
	f := newFixture(t)
	var got http.Header
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		_, _ = w.Write(f.layer)
	}))
	defer storage.Close()
	f.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if _, _, ok := r.BasicAuth(); !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, storage.URL+"/x?signature=s1gned", http.StatusTemporaryRedirect)
			return true
		}
		return false
	}
	c := f.client(t, password("ann", "s3cret"), func(o *Options) { o.Retries = 0 })
	if _, err := readBlob(t.Context(), c, f.blob); err != nil {
		t.Fatal(err)
	}
	if got.Get("Authorization") != "" {
		t.Error("the storage got the registry's credentials")
	}
	t.Run("errors omit a signature", func(t *testing.T) {
		storage.Close()
		_, err := readBlob(t.Context(), c, f.blob)
		e := asError(t, err)
		wantText(t, e.Error(), "connection refused")
		if strings.Contains(e.Error(), "s1gned") {
			t.Errorf("got %v", e)
		}
	})
}

func TestClient_TLS_trustsTheNamedOnly(t *testing.T) {
	f := prepare(t)
	f.server = httptest.NewUnstartedServer(f)
	f.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	f.server.StartTLS()
	t.Cleanup(f.server.Close)
	host := f.host()
	t.Run("of an unknown CA is refused without a retry", func(t *testing.T) {
		_, _, err := f.client(t).Manifest(t.Context(), repo, "v1")
		e := asError(t, err)
		wantText(t, e.Error(), host, "certificate signed by unknown authority")
		wantText(t, e.Hint(), "CA", "update-ca-trust")
		if len(f.naps) != 0 {
			t.Error("tried again")
		}
	})
	t.Run("of a named CA", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "ca.pem")
		block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.server.Certificate().Raw})
		if err := os.WriteFile(file, block, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := f.client(t, func(o *Options) { o.Trust.CAs = []string{file} }).Manifest(t.Context(), repo, "v1")
		if err != nil {
			t.Fatal(err)
		}
	})
	t.Run("with another name than the certificate's", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "ca.pem")
		block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.server.Certificate().Raw})
		if err := os.WriteFile(file, block, 0o600); err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(host)
		c := f.client(t, func(o *Options) { o.Registry, o.PlainHTTP, o.Trust.CAs = "localhost:"+port, false, []string{file} })
		_, _, err := c.Manifest(t.Context(), repo, "v1")
		wantText(t, asError(t, err).Hint(), "name that its certificate is for")
	})
}

func TestClient_plainHTTP(t *testing.T) {
	f := newFixture(t)
	t.Run("is not used unless configured", func(t *testing.T) {
		before := len(f.seen)
		_, _, err := f.client(t, func(o *Options) { o.PlainHTTP = false }).Manifest(t.Context(), repo, "v1")
		e := asError(t, err)
		wantText(t, e.Error(), "does not look like a TLS handshake")
		wantText(t, e.Hint(), "does not speak TLS", "plain HTTP")
		if len(f.seen) != before {
			t.Error("it was used")
		}
	})
	t.Run("is used alone if configured", func(t *testing.T) {
		if _, _, err := f.client(t).Manifest(t.Context(), repo, "v1"); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSchemeGuard_refusesTheOtherScheme(t *testing.T) {
	for _, test := range []struct {
		url               string
		plain, redirected bool
		want              bool
	}{
		{"https://reg/v2/", false, false, true},
		{"http://reg/v2/", false, false, false},
		{"http://storage/x", false, true, false},
		{"http://reg/v2/", true, false, true},
		{"https://reg/v2/", true, false, false},
		{"https://reg/v2/", true, true, true},
		{"https://tokens/x", true, false, true},
	} {
		passed := false
		g := &schemeGuard{plain: test.plain, host: "reg", gate: func() error { return nil }, inner: roundTrip(func() { passed = true })}
		req := httptest.NewRequest(http.MethodGet, test.url, nil)
		if test.redirected {
			req.Response = &http.Response{}
		}
		_, err := g.RoundTrip(req)
		if passed != test.want || (err == nil) != test.want {
			t.Errorf("%+v: passed %v, %v", test, passed, err)
		}
	}
}

type roundTrip func()

func (f roundTrip) RoundTrip(*http.Request) (*http.Response, error) {
	f()
	return &http.Response{}, nil
}

func TestClient_wrongAddress(t *testing.T) {
	f := prepare(t)
	ask := func(t *testing.T, registry string) *readError {
		c, err := New(Options{Registry: registry, PlainHTTP: true, Sleep: f.sleep})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _, err = c.Manifest(t.Context(), repo, "v1")
		return asError(t, err)
	}
	t.Run("no server", func(t *testing.T) {
		const addr = "127.0.0.1:1" // a free port may be taken by now
		e := ask(t, addr)
		wantText(t, e.Error(), addr, "connection refused")
		wantText(t, e.Hint(), "nothing listens")
	})
	t.Run("no registry", func(t *testing.T) {
		web := httptest.NewServer(http.NotFoundHandler())
		defer web.Close()
		e := ask(t, web.Listener.Addr().String())
		wantText(t, e.Hint(), "not answer as a registry")
		if errors.Is(e, os.ErrNotExist) {
			t.Error("a wrong address is taken for a missing image")
		}
	})
}

func TestClient_waitForALoginEndsWithItsContext(t *testing.T) {
	f := newFixture(t)
	entered, release := make(chan struct{}), make(chan struct{})
	f.fault = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		if r.URL.Path == "/v2/" {
			close(entered)
			<-release
		}
		return false
	}
	c := f.client(t)
	first := make(chan error, 1)
	go func() {
		_, _, err := c.Manifest(t.Context(), repo, "v1")
		first <- err
	}()
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := c.Manifest(ctx, repo, "v1"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestSessions_areBounded(t *testing.T) {
	var s sessions
	for i := range 3 * maxSessions {
		s.slot(fmt.Sprint(i))
	}
	if len(s.slots) > maxSessions {
		t.Errorf("%d sessions", len(s.slots))
	}
}

func TestNew_namesOfRegistries(t *testing.T) {
	for in, want := range map[string]string{
		"docker.io": "index.docker.io", "quay.io": "quay.io", "reg:5000": "reg:5000", "[::1]:5000": "[::1]:5000",
	} {
		c, err := New(Options{Registry: in})
		if err != nil || c.Registry() != want {
			t.Errorf("%s: got %v, %v", in, c, err)
		}
	}
	for _, in := range []string{"", "http://quay.io", "quay.io/org", "user:s3cret@quay.io", "https://user:s3cret@quay.io", "a b", "ftp://x"} {
		_, err := New(Options{Registry: in})
		if err == nil {
			t.Errorf("%q is accepted", in)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v has the password", err)
		}
	}
	t.Run("CA file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "ca.pem")
		_, err := New(Options{Registry: "quay.io", Trust: Trust{CAs: []string{file}}})
		wantText(t, fmt.Sprint(err), "quay.io", file)
		if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = New(Options{Registry: "quay.io", Trust: Trust{CAs: []string{file}}})
		wantText(t, fmt.Sprint(err), file, "no PEM certificate")
	})
}

func TestClient_repositoryNames(t *testing.T) {
	hub, err := New(Options{Registry: "docker.io"})
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{"alpine": "https://index.docker.io/v2/library/alpine/x", "a/b": "https://index.docker.io/v2/a/b/x"} {
		r, err := hub.repository(in)
		if err != nil || hub.url(r, "x") != want {
			t.Errorf("%s: got %s, %v", in, hub.url(r, "x"), err)
		}
	}
	bare, err := New(Options{Registry: "reg"})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := bare.repository("a/b"); err != nil || bare.url(r, "x") != "https://reg/v2/a/b/x" {
		t.Errorf("got %s, %v", bare.url(r, "x"), err)
	}
	for _, in := range []string{"", "/a", "a/", "a//b", "../a", "a/../b", "A", "a b", "a?b"} {
		if _, err := hub.repository(in); err == nil {
			t.Errorf("%q is accepted", in)
		}
	}
}
