package registry_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/registry/config"
)

// Who pulls waits for the answer: a pull asks again, and not as often as a mirror run does.
func TestPull_upstreamInTrouble(t *testing.T) {
	for troubles, want := range map[int32]int{2: http.StatusNotFound, 3: http.StatusBadGateway} {
		var asked atomic.Int32
		upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if asked.Add(1) <= troubles {
				w.WriteHeader(http.StatusServiceUnavailable)
			} else if r.URL.Path != "/v2/" {
				w.WriteHeader(http.StatusNotFound)
			}
		}))
		defer upstream.Close()
		r := start(t, func(c *config.Config) {
			c.Upstreams = []config.Upstream{{Prefix: "up", URL: upstream.URL}}
		})
		if status, body := r.as(t, "pull", http.MethodGet, "/v2/up/image/manifests/v1"); status != want {
			t.Errorf("after %d failures (%d requests) the answer is %d %s, want %d", troubles, asked.Load(), status, body, want)
		}
	}
}

// containerd says docker.io where the upstream is configured as one of the other
// names of Docker Hub.
func TestPull_ns(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v2/":
		case "/v2/library/image/manifests/v1":
			w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			_, _ = w.Write([]byte(`{"schemaVersion":2,"manifests":[]}`))
		default:
			http.NotFound(w, r)
		}
	}))
	defer upstream.Close()
	host := upstream.Listener.Addr().String()
	r := start(t, func(c *config.Config) {
		c.Upstreams = []config.Upstream{{Prefix: "up", URL: upstream.URL}, {Prefix: "hub", URL: "https://registry-1.docker.io"}}
	})
	for path, want := range map[string]int{
		"/v2/library/image/manifests/v1?ns=" + host:    http.StatusOK,
		"/v2/up/library/image/manifests/v1?ns=" + host: http.StatusOK,
		"/v2/library/image/manifests/v1?ns=ghcr.io":    http.StatusNotFound,
		"/v2/library/image/manifests/v1":               http.StatusNotFound,
		"/v2/library/image/manifests/v2?ns=" + host:    http.StatusNotFound,
		"/v2/library/image/manifests/v1?ns=%2e%2e%2f":  http.StatusNotFound,
	} {
		if status, body := r.as(t, "pull", http.MethodGet, path); status != want {
			t.Errorf("%s: got %d %s, want %d", path, status, body, want)
		}
	}
}

// An upstream has the appliance read what only its network can reach, and its user
// would see the answer.
func TestPull_upstreamLeadsIntoTheNetwork(t *testing.T) {
	const secret = "a secret of this network"
	var asked atomic.Int32
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"errors":[{"code":"` + secret + `","message":"` + secret + `"}]}`))
	}))
	defer inside.Close()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v2/":
		case strings.Contains(r.URL.Path, "/linklocal/"):
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data", http.StatusFound)
		default:
			http.Redirect(w, r, inside.URL+"/"+secret, http.StatusFound)
		}
	}))
	defer upstream.Close()
	r := start(t, func(c *config.Config) { c.Upstreams = []config.Upstream{{Prefix: "up", URL: upstream.URL}} })
	d := "sha256:" + strings.Repeat("a", 64)
	for _, path := range []string{
		"/v2/up/image/manifests/v1", "/v2/up/image/manifests/" + d, "/v2/up/image/referrers/" + d,
		"/v2/up/linklocal/manifests/v1", "/v2/up/linklocal/blobs/" + d,
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			if status, body := r.as(t, "pull", method, path); status != http.StatusBadGateway || strings.Contains(body, secret) {
				t.Errorf("%s %s: got %d %s", method, path, status, body)
			}
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("what is inside was asked %d times", n)
	}
	// Storage beside an upstream on this machine is read, and what it says is not told.
	if status, body := r.as(t, "pull", http.MethodGet, "/v2/up/image/blobs/"+d); status != http.StatusForbidden || strings.Contains(body, secret) {
		t.Errorf("a blob: got %d %s", status, body)
	}
}

// TestPull_loginsThatCannotBeRead starts with a file of logins that is of no use: what is held is
// served, and status and log say what is wrong.
func TestPull_loginsThatCannotBeRead(t *testing.T) {
	for name, put := range map[string]func(string) error{
		"absent":  func(string) error { return nil },
		"garbage": func(path string) error { return os.WriteFile(path, []byte("secret-garbage"), 0o600) },
		"a FIFO":  func(path string) error { return unix.Mkfifo(path, 0o600) },
		"a login that is none": func(path string) error {
			return os.WriteFile(path, []byte(`{"auths":{"127.0.0.1:1":{"auth":"c2VjcmV0LWdhcmJhZ2U"}}}`), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "auth.json")
			must(t, put(file))
			r := start(t, func(c *config.Config) {
				c.Upstreams = []config.Upstream{{Prefix: "up", URL: "https://127.0.0.1:1", AuthFile: file}}
			})
			s, err := r.admin.Status(t.Context())
			must(t, err)
			if len(s.Trouble) != 1 || !strings.Contains(s.Trouble[0].Problem, "upstream up is out of service: credentials file "+file) || s.Trouble[0].Hint == "" || !s.Healthy {
				t.Errorf("healthy %t, trouble %+v", s.Healthy, s.Trouble)
			}
			if log := r.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, file) || strings.Contains(log, "secret-garbage") {
				t.Errorf("it logs\n%s", log)
			}
		})
	}
}
