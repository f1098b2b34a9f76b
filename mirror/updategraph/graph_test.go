package updategraph_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/updategraph"
)

const answer = `{"version":1,"nodes":[{"version":"4.1.0","payload":"q.io/r@sha256:a","metadata":{"x":"y"}},{"version":"4.1.1","payload":"q.io/r@sha256:b"}],
"edges":[[0,1]],"conditionalEdges":[{"edges":[],"risks":[]}]}`

// service answers with the given statuses in turn, then with 200.
func service(t *testing.T, statuses ...int) (url string, asked *[]*http.Request) {
	t.Helper()
	asked = new([]*http.Request)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r)
		if n := len(*asked); n <= len(statuses) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(statuses[n-1])
			io.WriteString(w, `{"kind":"bad","value":"because of this"}`)
			return
		}
		io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/graph?tenant=1", asked
}

// Spec: oc-mirror 4.1.
func TestClient_Fetch(t *testing.T) {
	url, asked := service(t)
	c := updategraph.Client{URL: url, HTTP: http.DefaultClient}
	g, err := c.Fetch(t.Context(), "stable-4.1", "arm64")
	if err != nil {
		t.Fatal(err)
	}
	if string(g.Raw) != answer || len(g.Nodes) != 2 || len(g.Edges) != 1 {
		t.Errorf("graph %+v", g)
	}
	q := (*asked)[0].URL.Query()
	if q.Get("arch") != "arm64" || q.Get("channel") != "stable-4.1" || q.Get("tenant") != "1" || len(q.Get("id")) != 36 {
		t.Errorf("asked with %v", q)
	}
	if (*asked)[0].Header.Get("Accept") != "application/json" {
		t.Errorf("asked with headers %v", (*asked)[0].Header)
	}
}

func TestClient_retries(t *testing.T) {
	var waits []time.Duration
	sleep := func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }
	t.Run("while the service is out of order", func(t *testing.T) {
		url, asked := service(t, 503, 429)
		c := updategraph.Client{URL: url, HTTP: http.DefaultClient, Sleep: sleep}
		if _, err := c.Fetch(t.Context(), "stable-4.1", "amd64"); err != nil || len(*asked) != 3 {
			t.Fatalf("%v after %d requests", err, len(*asked))
		}
		if len(waits) != 2 || waits[0] != 7*time.Second {
			t.Errorf("waited %v, want what Retry-After says", waits)
		}
	})
	t.Run("until the date that it names", func(t *testing.T) {
		waits = nil
		first := true
		busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if first {
				first = false
				w.Header().Set("Date", "Fri, 20 Nov 2026 22:58:33 GMT")
				w.Header().Set("Retry-After", "Fri, 20 Nov 2026 22:58:53 GMT")
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			io.WriteString(w, `{}`)
		}))
		t.Cleanup(busy.Close)
		c := updategraph.Client{URL: busy.URL, HTTP: http.DefaultClient, Sleep: sleep}
		if _, err := c.Fetch(t.Context(), "stable-4.1", "amd64"); err != nil || len(waits) != 1 || waits[0] != 20*time.Second {
			t.Errorf("waited %v, %v", waits, err)
		}
	})
	t.Run("within a minute, beyond all sums too", func(t *testing.T) {
		for _, after := range []string{"86400", "9223372036854775807"} {
			waits = nil
			busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", after)
				w.WriteHeader(http.StatusServiceUnavailable)
			}))
			t.Cleanup(busy.Close)
			c := updategraph.Client{URL: busy.URL, HTTP: http.DefaultClient, Sleep: sleep}
			_, err := c.Fetch(t.Context(), "stable-4.1", "amd64")
			if err == nil || !strings.Contains(err.Error(), "tried 4 times") || len(waits) != 3 || waits[0] != time.Minute {
				t.Errorf("%s: waited %v, %v", after, waits, err)
			}
		}
	})
	t.Run("not a server whose certificate is not trusted", func(t *testing.T) {
		waits = nil
		unknown := httptest.NewUnstartedServer(http.NotFoundHandler())
		unknown.Config.ErrorLog = log.New(io.Discard, "", 0)
		unknown.StartTLS()
		t.Cleanup(unknown.Close)
		c := updategraph.Client{URL: unknown.URL, HTTP: http.DefaultClient, Sleep: sleep}
		if _, err := c.Fetch(t.Context(), "stable-4.1", "amd64"); err == nil || len(waits) != 0 {
			t.Errorf("waited %v, %v", waits, err)
		}
	})
	t.Run("not what will not change, and keeps the reason", func(t *testing.T) {
		url, asked := service(t, 400)
		c := updategraph.Client{URL: url, HTTP: http.DefaultClient, Sleep: sleep}
		_, err := c.Fetch(t.Context(), "stable-4.1", "amd64")
		if len(*asked) != 1 || err == nil || !strings.Contains(err.Error(), "400 Bad Request: because of this") || !strings.Contains(err.Error(), "stable-4.1") {
			t.Errorf("%v after %d requests", err, len(*asked))
		}
	})
	t.Run("not for ever", func(t *testing.T) {
		url, _ := service(t, 500, 500, 500, 500, 500, 500, 500, 500)
		c := updategraph.Client{URL: url, HTTP: http.DefaultClient, Sleep: sleep}
		if _, err := c.Fetch(t.Context(), "stable-4.1", "amd64"); err == nil || !strings.Contains(err.Error(), "500") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("not after it was cancelled", func(t *testing.T) {
		url, asked := service(t, 500, 500)
		ctx, cancel := context.WithCancel(t.Context())
		c := updategraph.Client{URL: url, HTTP: http.DefaultClient, Sleep: func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() }}
		if _, err := c.Fetch(ctx, "stable-4.1", "amd64"); !errors.Is(err, context.Canceled) || len(*asked) != 1 {
			t.Errorf("%v after %d requests", err, len(*asked))
		}
	})
}

func TestClient_Fetch_refusesNonsense(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":                `<html>proxy login</html>`,
		"an edge to nowhere":     `{"nodes":[{"version":"4.1.0","payload":"x"}],"edges":[[0,1]]}`,
		"an edge below zero":     `{"nodes":[{"version":"4.1.0","payload":"x"}],"edges":[[-1,0]]}`,
		"a release of nothing":   `{"nodes":[{"version":"4.1.0"}],"edges":[]}`,
		"a version that is none": `{"nodes":[{"version":"four","payload":"x"}],"edges":[]}`,
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }))
			defer server.Close()
			c := updategraph.Client{URL: server.URL, HTTP: http.DefaultClient}
			if g, err := c.Fetch(t.Context(), "stable-4.1", "amd64"); err == nil || hint.Of(err) == "" {
				t.Errorf("gives %+v, %v", g, err)
			}
		})
	}
}
