package upstream

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
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

// TestClient_namesTheProxyThatMayHaveFailed has answers, or none, that may be a proxy's or a registry's.
func TestClient_namesTheProxyThatMayHaveFailed(t *testing.T) {
	status := func(code int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}
	}
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	hangUp := func(w http.ResponseWriter, text string) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, text)
		conn.Close()
	}
	for name, test := range map[string]struct {
		plain  bool
		answer http.HandlerFunc
		kind   string
		hint   string // "": the proxy is not named
	}{
		"a refusal":                 {true, status(http.StatusForbidden, "text/html", "<html>"), "denied", "if it is not the proxy: the account may not read"},
		"a login":                   {true, status(http.StatusUnauthorized, "text/html", "<html>"), "login", "if it is not the proxy: no credentials were found"},
		"a failure":                 {true, status(http.StatusBadGateway, "text/plain", "bad gateway"), "failing", "HTTP_PROXY"},
		"a web page":                {true, status(http.StatusOK, "text/html", "<html>"), "nonsense", "if it is not the proxy: open http://registry.example:5000/v2/"},
		"no answer":                 {true, hang, "timeout", "HTTP_PROXY"},
		"no answer, with TLS":       {false, hang, "timeout", "HTTPS_PROXY"},
		"a closed connection":       {false, func(w http.ResponseWriter, _ *http.Request) { hangUp(w, "") }, "broken", "HTTPS_PROXY"},
		"garbage":                   {false, func(w http.ResponseWriter, _ *http.Request) { hangUp(w, "garbage\r\n\r\n") }, "broken", "HTTPS_PROXY"},
		"a refusal of the registry": {true, status(http.StatusForbidden, "application/json", `{"errors":[{"code":"DENIED","message":"no"}]}`), "denied", ""},
		"an image that is not there": {true, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v2/" {
				http.NotFound(w, r)
			}
		}, "absent", ""},
	} {
		for key, named := range map[string]bool{"of the environment": false, "of the upstream": true} {
			t.Run(name+", "+key, func(t *testing.T) {
				proxy := httptest.NewServer(test.answer)
				defer proxy.Close()
				defer proxy.CloseClientConnections() // a CONNECT outlives the request that it was for
				at, err := url.Parse(proxy.URL)
				if err != nil {
					t.Fatal(err)
				}
				c := newFixture(t).client(t, func(o *Options) {
					o.Registry, o.PlainHTTP, o.Retries, o.stall = "registry.example:5000", test.plain, 0, 100*time.Millisecond
					o.Proxy = http.ProxyURL(at)
				})
				c.words.proxied = named
				_, _, err = c.Manifest(t.Context(), repo, "v1")
				e := asError(t, err)
				if e.Kind() != test.kind {
					t.Errorf("kind %s of %v", e.Kind(), e)
				}
				if test.hint == "" {
					if strings.Contains(e.Error()+e.Hint(), "proxy") {
						t.Errorf("%v\nhint: %s", e, e.Hint())
					}
					return
				}
				wantText(t, e.Error(), "(the registry is asked through the proxy "+at.Host+")")
				wantText(t, e.Reason(), at.Host)
				wantText(t, e.Hint(), "it may be the proxy "+at.Host)
				switch {
				case named:
					wantText(t, e.Hint(), "(proxy of the upstream in config.yaml)", "proxy: none")
				default:
					wantText(t, e.Hint(), test.hint, "NO_PROXY")
				}
			})
		}
	}
}
