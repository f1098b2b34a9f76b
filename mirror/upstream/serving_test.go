package upstream

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func serving(o *Options) { o.Serving = true }

func TestClient_serving_returnsALimitAtOnce(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		after  string
		want   time.Duration
		naps   int
	}{
		"429":                     {429, "3600", time.Hour, 0},
		"429 without Retry-After": {429, "", 0, 0},
		"429 without end":         {429, "9223372036854775807", 24 * time.Hour, 0},
		"503 for an hour":         {503, "3600", time.Hour, 0},
		"503 for a second":        {503, "1", time.Second, 5},
		"503 without Retry-After": {503, "", 0, 5},
	} {
		for _, path := range []string{"/manifests/v1", "/v2/"} {
			t.Run(name+" of "+path, func(t *testing.T) {
				f := newFixture(t)
				f.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
					if !strings.HasSuffix(r.URL.Path, path) {
						return false
					}
					if test.after != "" {
						w.Header().Set("Retry-After", test.after)
					}
					w.WriteHeader(test.status)
					return true
				}
				_, _, err := f.client(t, serving).Manifest(t.Context(), repo, "v1")
				e := asError(t, err)
				if e.Status != test.status || e.After != test.want || len(f.naps) != test.naps {
					t.Errorf("got %v, Retry-After %s; waited %v", e, e.After, f.naps)
				}
			})
		}
	}
}

func TestClient_idlesWhileItWaits(t *testing.T) {
	f := newFixture(t)
	f.fault = always(http.StatusServiceUnavailable, 3)
	idled := 0
	c := f.client(t, func(o *Options) {
		o.Idle = func(ctx context.Context, wait func(context.Context) error) error {
			idled++
			return wait(ctx)
		}
	})
	if _, _, err := c.Manifest(t.Context(), repo, "v1"); err != nil {
		t.Fatal(err)
	}
	if idled != 2 || len(f.naps) != 2 {
		t.Errorf("idled %d times, waited %v", idled, f.naps)
	}
}

func TestReadError_Refused_byStatus(t *testing.T) {
	for _, test := range []struct {
		e    readError
		want int
	}{
		{readError{Attempt: "get", Status: 403}, 403},
		{readError{Attempt: "get", Status: 404}, 404},
		{readError{Attempt: "get", Status: 410}, 410},
		{readError{Attempt: attemptLogin, Status: 401}, 401},
		{readError{Attempt: attemptLogin, Status: 404}, 0},
		{readError{Attempt: "get", Status: 429}, 429},
		{readError{Attempt: attemptLogin, Status: 429}, 429},
		{readError{Attempt: "get", Status: 408}, 0},
		{readError{Attempt: "get", Status: 500}, 0},
		{readError{Attempt: "get"}, 0},
	} {
		if got, _ := test.e.Refused(); got != test.want {
			t.Errorf("%+v: got %d", test.e, got)
		}
	}
}

func TestOneLine_isShortAndPlain(t *testing.T) {
	for in, want := range map[string]string{
		"a\nb":                   "a",
		" \x1b[31mred\x07 ":      "[31mred",
		"a\x00\u202eb\u009b":     "ab",
		"bad \xff":               "bad \uFFFD",
		strings.Repeat("ä", 400): strings.Repeat("ä", 300) + "…",
	} {
		if got := oneLine(in); got != want {
			t.Errorf("%q: got %q", in, got)
		}
	}
}

// A silent upstream is not retried while a client waits. A mirror run retries.
func TestClient_serving_tellsOfSilenceAtOnce(t *testing.T) {
	for name, test := range map[string]struct {
		option func(*Options)
		asked  int
	}{
		"a client waits": {serving, 1},
		"a mirror":       {func(o *Options) { o.Retries = 1 }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			var asked atomic.Int32
			f.fault = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
				if !strings.HasSuffix(r.URL.Path, "/manifests/v1") {
					return false
				}
				asked.Add(1)
				<-r.Context().Done()
				return true
			}
			c := f.client(t, test.option, func(o *Options) { o.stall = 100 * time.Millisecond })
			if _, _, err := c.Manifest(t.Context(), repo, "v1"); err == nil || !strings.Contains(err.Error(), "stalled") {
				t.Errorf("got %v", err)
			}
			if n := int(asked.Load()); n != test.asked {
				t.Errorf("%d requests, want %d", n, test.asked)
			}
		})
	}
}
