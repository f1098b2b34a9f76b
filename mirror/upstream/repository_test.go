package upstream_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/sourcetest"
	"github.com/mirror-appliance/appliance/mirror/upstream"
)

func TestRepository_isSource(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T, c sourcetest.Content) mirror.Source {
		server := httptest.NewServer(serveContent(c))
		t.Cleanup(server.Close)
		registries := upstream.NewRegistries(func(registry string) (upstream.Options, error) {
			return upstream.Options{Registry: registry, PlainHTTP: true, Retries: 2,
				Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }}, nil
		})
		t.Cleanup(registries.Close)
		source, err := registries.Repository(strings.TrimPrefix(server.URL, "http://"), "a/b")
		if err != nil {
			t.Fatal(err)
		}
		return source
	})
}

// serveContent returns a registry that serves its content, damaged or not.
func serveContent(c sourcetest.Content) http.Handler {
	var once sync.Once
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind, ref, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/a/b/"), "/")
		d, known := c.Tags[ref]
		if !known {
			d = digest.Digest(ref)
		}
		data, ok := c.Blobs[d]
		if kind == "manifests" {
			data, ok = c.Manifests[d]
			w.Header().Set("Content-Type", c.MediaType)
		}
		switch {
		case r.URL.Path == "/v2/":
			return
		case !ok:
			http.NotFound(w, r)
			return
		case d == c.Breaks && r.Method == http.MethodGet:
			once.Do(func() {
				w.Header().Set("Content-Length", strconv.Itoa(len(data)))
				_, _ = w.Write(data[:len(data)/2])
				panic(http.ErrAbortHandler)
			})
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	})
}
