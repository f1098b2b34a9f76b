package busy_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/busy"
)

// world is a server, and a clock that only waiting moves.
type world struct {
	url    string
	limits *busy.Limits

	mu    sync.Mutex // guards the rest
	now   time.Time
	naps  []time.Duration
	asked int
	// refuse answers the nth request, counted from 1, with what it writes if it returns true.
	refuse func(w http.ResponseWriter, nth int) bool
}

func newWorld(t *testing.T, refuse func(w http.ResponseWriter, nth int) bool) *world {
	t.Helper()
	e := &world{now: time.Unix(1e9, 0), refuse: refuse}
	e.limits = busy.New(func() time.Time { e.mu.Lock(); defer e.mu.Unlock(); return e.now }, nil)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.mu.Lock()
		e.asked++
		nth := e.asked
		e.mu.Unlock()
		if !e.refuse(w, nth) {
			_, _ = w.Write(append([]byte("ok"), body...))
		}
	}))
	t.Cleanup(server.Close)
	e.url = server.URL
	return e
}

func (e *world) sleep(ctx context.Context, d time.Duration) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now = e.now.Add(d)
	e.naps = append(e.naps, d)
	return ctx.Err()
}

// client returns a further client of the limits.
func (e *world) client() *http.Client {
	return &http.Client{Transport: e.limits.Transport(http.DefaultTransport, e.sleep)}
}

// get returns the status and the text of an answer.
func get(t *testing.T, c *http.Client, method, url string, body io.Reader) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// first refuses the first n requests.
func first(n int, status int, after string) func(http.ResponseWriter, int) bool {
	return func(w http.ResponseWriter, nth int) bool {
		if nth > n {
			return false
		}
		if after != "" {
			w.Header().Set("Retry-After", after)
		}
		w.WriteHeader(status)
		return true
	}
}

func TestTransport_waitsAndAsksAgain(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		after  string
		want   time.Duration // the first wait, 0: any
		answer int
	}{
		"429 in seconds":          {429, "17", 17 * time.Second, 200},
		"429 without a time":      {429, "", 0, 200},
		"429 for a day":           {429, "86400", 2 * time.Minute, 200},
		"503 with a time":         {503, "3", 3 * time.Second, 200},
		"503 without one is left": {503, "", -1, 503},
		"500 is left":             {500, "3", -1, 500},
	} {
		t.Run(name, func(t *testing.T) {
			e := newWorld(t, first(2, test.status, test.after))
			status, text := get(t, e.client(), http.MethodPut, e.url, strings.NewReader(" body"))
			if status != test.answer || status == 200 && text != "ok body" {
				t.Errorf("got %d %q", status, text)
			}
			if test.want < 0 {
				if len(e.naps) != 0 {
					t.Errorf("waited %v", e.naps)
				}
			} else if len(e.naps) != 2 || test.want > 0 && e.naps[0] != test.want {
				t.Errorf("waited %v, want %v first", e.naps, test.want)
			}
		})
	}
}

func TestTransport_othersWaitToo(t *testing.T) {
	e := newWorld(t, first(1, 429, "60"))
	body := io.MultiReader(strings.NewReader("read once"))
	if status, _ := get(t, e.client(), http.MethodPut, e.url, body); status != 429 || len(e.naps) != 0 {
		t.Fatalf("a body that is gone: %d after waits of %v", status, e.naps)
	}
	if status, _ := get(t, e.client(), http.MethodGet, e.url, nil); status != 200 || !slices.Equal(e.naps, []time.Duration{time.Minute}) {
		t.Errorf("another client: %d after waits of %v", status, e.naps)
	}
	other := newWorld(t, first(0, 0, ""))
	c := &http.Client{Transport: e.limits.Transport(http.DefaultTransport, e.sleep)}
	if _, _ = get(t, c, http.MethodGet, other.url, nil); len(e.naps) != 1 {
		t.Errorf("another host: waits of %v", e.naps)
	}
}

// A server that takes ten requests a second gets all of many through, and no storm of refused ones.
func TestTransport_findsTheRate(t *testing.T) {
	var e *world
	var hits []time.Time
	refused := 0
	e = newWorld(t, func(w http.ResponseWriter, _ int) bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		hits = slices.DeleteFunc(hits, func(at time.Time) bool { return e.now.Sub(at) >= time.Second })
		if len(hits) >= 10 {
			refused++
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		}
		hits = append(hits, e.now)
		return false
	})
	c, began := e.client(), e.now
	for range 300 {
		if status, _ := get(t, c, http.MethodGet, e.url, nil); status != 200 {
			t.Fatalf("got %d", status)
		}
	}
	if took := e.now.Sub(began); took > time.Minute || refused > 30 {
		t.Errorf("300 requests took %v, %d more were refused", took, refused)
	}
}

func TestTransport_givesUpAfterMinutes(t *testing.T) {
	e := newWorld(t, first(1<<30, 429, "20"))
	host := strings.TrimPrefix(e.url, "http://")
	c, began := e.client(), e.now
	status, _ := get(t, c, http.MethodGet, e.url, nil)
	if took := e.now.Sub(began); status != 429 || took < 9*time.Minute || took > 11*time.Minute || !e.limits.Exhausted(host) {
		t.Fatalf("got %d after %v, exhausted %v", status, took, e.limits.Exhausted(host))
	}
	asked, naps := e.asked, len(e.naps)
	if status, text := get(t, c, http.MethodGet, e.url, nil); status != 429 || !strings.Contains(text, "ten minutes") || e.asked != asked || len(e.naps) != naps {
		t.Errorf("then got %d %q, %d more requests and %d waits", status, text, e.asked-asked, len(e.naps)-naps)
	}
	_ = e.sleep(t.Context(), time.Minute)
	e.refuse = first(0, 0, "")
	if status, _ := get(t, c, http.MethodGet, e.url, nil); status != 200 || e.limits.Exhausted(host) {
		t.Errorf("after a rest got %d, exhausted %v", status, e.limits.Exhausted(host))
	}
}

func TestTransport_endsWithItsContext(t *testing.T) {
	e := newWorld(t, first(1<<30, 429, "20"))
	ctx, cancel := context.WithCancel(t.Context())
	c := &http.Client{Transport: e.limits.Transport(http.DefaultTransport, func(ctx context.Context, _ time.Duration) error {
		cancel()
		return ctx.Err()
	})}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := c.Do(req); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v", resp, err)
	}
}

// An address that the registry redirected to may be signed for seconds: its caller goes back.
func TestTransport_leavesRedirected(t *testing.T) {
	storage := newWorld(t, first(1, 503, "2"))
	e := newWorld(t, func(w http.ResponseWriter, _ int) bool {
		w.Header().Set("Location", storage.url)
		w.WriteHeader(http.StatusTemporaryRedirect)
		return true
	})
	if status, _ := get(t, e.client(), http.MethodGet, e.url, nil); status != 503 || len(e.naps) != 0 {
		t.Errorf("got %d after waits of %v", status, e.naps)
	}
	if status, _ := get(t, e.client(), http.MethodGet, e.url, nil); status != 200 || !slices.Equal(e.naps, []time.Duration{2 * time.Second}) {
		t.Errorf("then got %d after waits of %v", status, e.naps)
	}
}
