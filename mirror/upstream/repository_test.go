package upstream_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/sourcetest"
	"github.com/mirror-appliance/appliance/mirror/upstream"
)

func TestRepository_isSource(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T, c sourcetest.Content) mirror.Source {
		server := httptest.NewServer(c.Handler())
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
