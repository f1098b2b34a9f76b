package ping_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/internal/ping"
)

func TestOnce(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		path   string
		login  bool
		asked  int64
	}{
		"an open registry":           {200, "/v2/", false, 1},
		"one with a challenge":       {401, "/v2/", false, 1},
		"what is down is asked":      {503, "/v2/", false, 8},
		"what is no registry too":    {404, "/v2/", false, 8},
		"with a login":               {200, "/v2/", true, 8},
		"what is below it is no one": {200, "/v2/a/tags/list", false, 8},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				w.Header().Set("WWW-Authenticate", "Basic")
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, "text")
			}))
			t.Cleanup(server.Close)
			c := http.Client{Transport: ping.Once(strings.TrimPrefix(server.URL, "http://"), http.DefaultTransport)}
			var g errgroup.Group
			for range 8 {
				g.Go(func() error {
					r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+test.path, nil)
					if err != nil {
						return err
					}
					if test.login {
						r.SetBasicAuth("user", "password")
					}
					resp, err := c.Do(r)
					if err != nil {
						return err
					}
					defer resp.Body.Close()
					body, err := io.ReadAll(resp.Body)
					if resp.StatusCode != test.status || string(body) != "text" || resp.Header.Get("WWW-Authenticate") != "Basic" {
						t.Errorf("got %d %q %v", resp.StatusCode, body, resp.Header)
					}
					return err
				})
			}
			if err := g.Wait(); err != nil {
				t.Fatal(err)
			}
			if asked.Load() != test.asked {
				t.Errorf("%d requests, want %d", asked.Load(), test.asked)
			}
		})
	}
}

// TestOnce_brokenOff: an answer of which the body breaks off is one.
func TestOnce_brokenOff(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", "Basic")
		w.Header().Set("Content-Length", "2")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "{")
		_ = http.NewResponseController(w).Flush() // what is not flushed is not sent
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(server.Close)
	c := http.Client{Transport: ping.Once(strings.TrimPrefix(server.URL, "http://"), http.DefaultTransport)}
	resp, err := c.Get(server.URL + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "{" || resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") != "Basic" {
		t.Errorf("got %d %q %v, %v", resp.StatusCode, body, resp.Header, err)
	}
}
