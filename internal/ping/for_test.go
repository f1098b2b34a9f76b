package ping_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/internal/ping"
)

func TestFor(t *testing.T) {
	var asked, entered atomic.Int64
	var page atomic.Bool
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if page.Load() {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html>")
			return
		}
		if entered.Add(1) == 8 {
			close(release)
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	var now atomic.Int64
	host := strings.TrimPrefix(server.URL, "http://")
	c := http.Client{Timeout: 10 * time.Second, Transport: ping.For(time.Minute, func() time.Time { return time.Unix(now.Load(), 0) }, host, http.DefaultTransport)}
	ask := func() error {
		resp, err := c.Get(server.URL + "/v2/")
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	page.Store(true)
	for range 2 {
		if err := ask(); err != nil {
			t.Fatal(err)
		}
	}
	if n := asked.Swap(0); n != 2 {
		t.Errorf("a page is remembered: asked %d times", n)
	}
	page.Store(false)
	var g errgroup.Group
	for range 8 { // none waits for another
		g.Go(ask)
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ passed, asked int64 }{{0, 8}, {59, 8}, {1, 9}, {30, 9}} {
		now.Add(step.passed)
		if err := ask(); err != nil || asked.Load() != step.asked {
			t.Errorf("after %d more seconds: asked %d times, want %d, %v", step.passed, asked.Load(), step.asked, err)
		}
	}
}
