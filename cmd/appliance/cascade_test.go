package main_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/config"
)

// behind returns a site that pulls through another appliance, with the login of a reader.
func behind(t *testing.T, upper *site) *site {
	t.Helper()
	s := newSite(t)
	auth := s.file(t, "auth.json", upper.login("pull", faultPassword))
	s.configure(t, func(c *config.Config) {
		c.Upstreams = []config.Upstream{{Prefix: "up", URL: "https://" + upper.address + "/up", CA: upper.cfg.TLS.CA, AuthFile: auth}}
	})
	return s
}

// An appliance behind an appliance behind an appliance: what one asks for is held by all, the source is
// asked once, and its answers and its end are told through all of them.
func TestUpstream_cascade(t *testing.T) {
	first := newSite(t)
	limited := false
	inner := first.upstream.Config.Handler
	source, asked := counting(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if limited {
			w.Header().Set("Retry-After", "77")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	first.configure(t, func(c *config.Config) { c.Upstreams = []config.Upstream{{Prefix: "up", URL: source.URL}} })
	second := behind(t, first)
	third := behind(t, second)

	const signed = "/v2/up/samples/signed/manifests/"
	a, err := third.ask(t.Context(), http.MethodGet, signed+"v1", nil, "Accept", "*/*")
	must(t, err)
	d := a.header.Get("Docker-Content-Digest")
	signature := signed + strings.Replace(d, ":", "-", 1) + ".sig"
	if a.status != http.StatusOK || third.status(t, signature) != http.StatusOK {
		t.Fatalf("%d, %s; its signature: %d", a.status, a.body, third.status(t, signature))
	}
	contains(t, third.works(t, "pin", "up/samples/docker-multi:v1", "--quayRoot", third.root), ": whole, ")
	if got := third.status(t, signed+"none"); got != http.StatusNotFound {
		t.Errorf("what the source has not: %d", got)
	}
	limited = true
	a, err = third.ask(t.Context(), http.MethodGet, "/v2/up/samples/oci/manifests/v1", nil, "Accept", "*/*")
	must(t, err)
	if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") != "77" {
		t.Errorf("the limit of the source: %d, Retry-After %q, %s", a.status, a.header.Get("Retry-After"), a.body)
	}
	limited = false
	source.Close()
	before := asked.Load()
	a, err = third.ask(t.Context(), http.MethodGet, "/v2/up/samples/oci-multi/manifests/v1", nil, "Accept", "*/*")
	must(t, err)
	if a.status != http.StatusBadGateway || !strings.Contains(string(a.body), "connection refused") {
		t.Errorf("what is not held: %d, %s", a.status, a.body)
	}
	for _, s := range []*site{first, second, third} {
		for _, path := range []string{signed + "v1", signature, "/v2/up/samples/docker-multi/manifests/v1"} {
			if got := s.status(t, path); got != http.StatusOK {
				t.Errorf("%s at %s: %d", path, s.address, got)
			}
		}
	}
	if n := asked.Load() - before; n != 0 {
		t.Errorf("the source got %d requests", n)
	}
}

// Why the appliance in front does not give an image is told as it is, and not as a missing right.
func TestUpstream_cascadeRefuses(t *testing.T) {
	first := newSite(t)
	first.configure(t, func(c *config.Config) {
		c.Upstreams = []config.Upstream{{Prefix: "up", URL: first.upstream.URL, Deny: []string{"samples/oci"}}}
	})
	second := behind(t, first)
	third := behind(t, second)
	for _, c := range []struct{ image, offline, reason, hint string }{
		{"samples/oci", "off", "refused", "appliance upstream test --image up/samples/oci:TAG"},
		{"samples/docker", "on", "offline", "appliance offline off"},
	} {
		first.works(t, "offline", c.offline, "--quayRoot", first.root)
		for at, asks := range map[*site]string{second: first.address, third: second.address} {
			a, err := at.ask(t.Context(), http.MethodGet, "/v2/up/"+c.image+"/manifests/v1", nil, "Accept", "*/*")
			must(t, err)
			if a.status != http.StatusForbidden {
				t.Errorf("%s: %d", c.image, a.status)
			}
			contains(t, string(a.body), `"reason":"`+c.reason+`"`, c.hint, `"hint":"`+asks)
			code, stdout, _ := at.run(t, "upstream", "test", "--image", "up/"+c.image+":v1", "--quayRoot", at.root)
			if code != 1 || strings.Contains(stdout, "the account") {
				t.Errorf("%d %s", code, stdout)
			}
			contains(t, stdout, "hint: "+asks, c.hint)
		}
	}
}
