package upstream

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

func TestClient_namesTheProxyThatRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		plain  bool
		status int // 0: nothing listens
		says   string
		hint   string
		asked  int32
	}{
		"a login":                  {false, http.StatusProxyAuthRequired, "answers 407 Proxy Authentication Required for registry.example:5000", "HTTPS_PROXY=http://user:password@", 1},
		"a login, for plain HTTP":  {true, http.StatusProxyAuthRequired, "answers 407 Proxy Authentication Required for registry.example:5000", "HTTP_PROXY", 1},
		"a host":                   {false, http.StatusForbidden, "answers 403 Forbidden for registry.example:5000", "NO_PROXY", 1},
		"a host that is down":      {false, http.StatusBadGateway, "answers 502 Bad Gateway for registry.example:5000", "NO_PROXY", 3},
		"nothing, it is not there": {false, 0, "is not reached: dial tcp", "HTTPS_PROXY", 0},
		"nothing, for plain HTTP":  {true, 0, "is not reached: dial tcp", "HTTP_PROXY", 0},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				w.WriteHeader(test.status)
			}))
			defer proxy.Close()
			if test.status == 0 {
				proxy.Close()
			}
			f := newFixture(t)
			c := f.client(t, func(o *Options) { o.Registry, o.PlainHTTP, o.Retries = "registry.example:5000", test.plain, 2 })
			at := strings.TrimPrefix(proxy.URL, "http://")
			c.hosts.own.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: at, User: url.UserPassword("ann", "s3cret")})
			_, _, err := c.Manifest(t.Context(), repo, "v1")
			e := asError(t, err)
			wantText(t, e.Error(), "the proxy "+at, test.says)
			wantText(t, e.Hint(), test.hint)
			if strings.Contains(fmt.Sprint(e, e.Hint()), "s3cret") || asked.Load() != test.asked {
				t.Errorf("%v after %d requests", e, asked.Load())
			}
		})
	}
}
