package registry_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

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
