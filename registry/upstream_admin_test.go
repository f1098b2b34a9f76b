package registry_test

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

// tested returns what the test of the only upstream found.
func (r *running) tested(t *testing.T) api.UpstreamTested {
	t.Helper()
	all, err := r.admin.TestUpstreams(t.Context(), api.UpstreamTest{})
	must(t, err)
	if len(all) != 1 {
		t.Fatalf("tested %+v", all)
	}
	return all[0]
}

// TestUpstreams_Test_throughAProxy has a proxy in the way that lets nothing through.
func TestUpstreams_Test_throughAProxy(t *testing.T) {
	for name, test := range map[string]struct {
		status int // of its answer; 0: nothing listens
		error  string
		hints  []string
	}{
		"that refuses":          {http.StatusForbidden, "answers 403 Forbidden for registry.invalid:443", []string{"have registry.invalid:443 allowed", "proxy: none"}},
		"that asks for a login": {http.StatusProxyAuthRequired, "answers 407 Proxy Authentication Required", []string{"HTTPS_PROXY=http://user:password@127.0.0.1", "for the service"}},
		"that is down":          {0, "is not reached", []string{"check proxy of the upstream"}},
	} {
		t.Run(name, func(t *testing.T) {
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodConnect {
					t.Errorf("the proxy got %s", r.Method)
				}
				w.WriteHeader(test.status)
			}))
			defer proxy.Close()
			if test.status == 0 {
				proxy.Close()
			}
			r := start(t, func(c *config.Config) {
				c.Upstreams = []config.Upstream{{Prefix: "up", URL: "https://registry.invalid", Proxy: proxy.URL}}
			})
			got := r.tested(t)
			if !strings.Contains(got.Error, "the proxy "+proxy.Listener.Addr().String()) || !strings.Contains(got.Error, test.error) {
				t.Errorf("error: %s", got.Error)
			}
			for _, want := range test.hints {
				if !strings.Contains(got.Hint, want) {
					t.Errorf("hint: %s", got.Hint)
				}
			}
			a := r.pulls(t, "/v2/up/image/manifests/v1")
			if a.status != http.StatusBadGateway || a.error.Detail.Reason != "proxy" || a.error.Detail.Hint != got.Hint {
				t.Errorf("a pull: %d %s", a.status, a.body)
			}
		})
	}
}

// TestUpstreams_Test_throughAProxyThatLeadsThere is what the hints lead to.
func TestUpstreams_Test_throughAProxyThatLeadsThere(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	var asked atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Host != "registry.invalid" {
			t.Errorf("the proxy is asked for %s", r.URL)
		}
		w.WriteHeader(http.StatusOK)
	}))
	defer proxy.Close()
	r := start(t, func(c *config.Config) {
		c.Upstreams = []config.Upstream{{Prefix: "up", URL: "http://registry.invalid", Proxy: proxy.URL}}
	})
	if got := r.tested(t); got.Error != "" || asked.Load() == 0 {
		t.Errorf("%+v after %d requests", got, asked.Load())
	}
}

// TestPull_loginThatExpires is the login of a cloud's registry, which is good for hours.
func TestPull_loginThatExpires(t *testing.T) {
	var valid atomic.Value
	valid.Store("morning")
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, pw, _ := r.BasicAuth(); user != "AWS" || pw != valid.Load() {
			w.Header().Set("WWW-Authenticate", `Basic realm="https://registry.example/",service="ecr.amazonaws.com"`)
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate and try again."}]}`)
			return
		}
		if r.URL.Path != "/v2/" {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			fmt.Fprintf(w, `{"schemaVersion":2,"mediaType":%q,"manifests":[],"annotations":{"path":%q}}`, ocispec.MediaTypeImageIndex, r.URL.Path)
		}
	}))
	defer upstream.Close()
	file := filepath.Join(t.TempDir(), "auth.json")
	login := func(password string) {
		must(t, os.WriteFile(file, fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, upstream.Listener.Addr().(*net.TCPAddr).String(),
			base64.StdEncoding.EncodeToString([]byte("AWS:"+password))), 0o600))
	}
	login("morning")
	r := start(t, func(c *config.Config) {
		c.Upstreams = []config.Upstream{{Prefix: "up", URL: upstream.URL, AuthFile: file}}
	})
	want := func(when, tag string, status int) {
		t.Helper()
		if a := r.pulls(t, "/v2/up/image/manifests/"+tag); a.status != status {
			t.Errorf("%s: %d %s", when, a.status, a.body)
		}
		if a := r.pulls(t, "/v2/up/image/manifests/v1"); a.status != http.StatusOK {
			t.Errorf("%s, what is held: %d %s", when, a.status, a.body)
		}
		switch got := r.tested(t); {
		case status == http.StatusOK && got.Error != "":
			t.Errorf("%s: test: %+v", when, got)
		case status != http.StatusOK && (!strings.Contains(got.Error, "has expired") || !strings.Contains(got.Hint, "podman login --authfile "+file)):
			t.Errorf("%s: test: %+v", when, got)
		}
	}
	want("in the morning", "v1", http.StatusOK)
	valid.Store("evening")
	want("when it has expired", "v2", http.StatusForbidden)
	login("evening")
	want("once it is renewed", "v2", http.StatusOK)
}
