package upstream

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/busy"
	"github.com/mirror-appliance/appliance/internal/retry"
)

// always answers requests for manifests and blobs with a status until the nth request.
func always(status, until int, header ...string) func(http.ResponseWriter, *http.Request, int) bool {
	return func(w http.ResponseWriter, r *http.Request, nth int) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") || nth >= until {
			return false
		}
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}`))
		return true
	}
}

// Spec: oc-mirror 3.3.
func TestClient_retries(t *testing.T) {
	for _, status := range []int{408, 429, 500, 502, 503, 504, 520, 530} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			f := newFixture(t)
			f.fault = always(status, 3)
			if _, _, err := f.client(t).Manifest(t.Context(), repo, "v1"); err != nil {
				t.Fatal(err)
			}
			if len(f.naps) != 2 || f.naps[0] < firstBackoff/2 || f.naps[0] > firstBackoff || f.naps[1] < firstBackoff || f.naps[1] > 2*firstBackoff {
				t.Errorf("waited %v", f.naps)
			}
		})
	}
	t.Run("a lost connection", func(t *testing.T) {
		f := newFixture(t)
		f.fault = func(_ http.ResponseWriter, r *http.Request, nth int) bool {
			if strings.Contains(r.URL.Path, "/manifests/") && nth < 3 {
				cut()
			}
			return false
		}
		if _, _, err := f.client(t).Manifest(t.Context(), repo, "v1"); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("the ping", func(t *testing.T) {
		f := newFixture(t)
		f.fault = func(w http.ResponseWriter, r *http.Request, nth int) bool {
			if r.URL.Path != "/v2/" || nth > 2 {
				return false
			}
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		if _, _, err := f.client(t).Manifest(t.Context(), repo, "v1"); err != nil {
			t.Fatal(err)
		}
	})
}

func TestClient_retryAfter(t *testing.T) {
	const date = "Mon, 02 Jan 2006 15:04:05 GMT"
	for name, test := range map[string]struct {
		header []string
		want   time.Duration
	}{
		"in seconds":      {[]string{"Retry-After", "17"}, 17 * time.Second},
		"until a date":    {[]string{"Retry-After", "Mon, 02 Jan 2006 15:04:35 GMT", "Date", date}, 30 * time.Second},
		"within reason":   {[]string{"Retry-After", "86400"}, maxRetryAfter},
		"beyond int64":    {[]string{"Retry-After", "9223372036854775807"}, maxRetryAfter},
		"until next year": {[]string{"Retry-After", "Mon, 02 Jan 2007 15:04:35 GMT", "Date", date}, maxRetryAfter},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.fault = always(http.StatusTooManyRequests, 2, test.header...)
			if _, _, err := f.client(t).Manifest(t.Context(), repo, "v1"); err != nil {
				t.Fatal(err)
			}
			if len(f.naps) != 1 || f.naps[0] != test.want {
				t.Errorf("waited %v, want %v", f.naps, test.want)
			}
		})
	}
}

// A registry that has too many requests is waited for beyond the number of retries, and
// by all clients of a run.
func TestClient_busyRegistry(t *testing.T) {
	f := newFixture(t)
	limits := busy.New(f.clock, nil)
	share := func(o *Options) { o.Busy, o.Retries = limits, 0 }
	f.fault = always(http.StatusTooManyRequests, 20, "Retry-After", "3")
	if _, _, err := f.client(t, share).Manifest(t.Context(), repo, "v1"); err != nil {
		t.Fatal(err)
	}
	if got := f.count("GET", "/manifests/v1"); got != 20 {
		t.Errorf("asked %d times", got)
	}
	f.fault, f.naps = always(http.StatusTooManyRequests, 1<<30, "Retry-After", "60"), nil
	_, _, err := f.client(t, share).Manifest(t.Context(), repo, "v1")
	if e := asError(t, err); e.Status != http.StatusTooManyRequests || !limits.Exhausted(f.host()) {
		t.Errorf("got %v, exhausted %v", err, limits.Exhausted(f.host()))
	}
	asked := f.count("GET", "/manifests/v1")
	if _, _, err := f.client(t, share).Manifest(t.Context(), repo, "v1"); err == nil || f.count("GET", "/manifests/v1") != asked {
		t.Errorf("another client got %v after %d more requests", err, f.count("GET", "/manifests/v1")-asked)
	}
}

func TestClient_retriesAreLimited(t *testing.T) {
	for retries, want := range map[int]int{0: 1, 2: 3, -1: 1} {
		f := newFixture(t)
		f.fault = always(http.StatusServiceUnavailable, 1000)
		_, _, err := f.client(t, func(o *Options) { o.Retries = retries }).Manifest(t.Context(), repo, "v1")
		e := asError(t, err)
		if e.Status != http.StatusServiceUnavailable {
			t.Errorf("got %v", err)
		}
		wantText(t, e.Error(), "503 Service Unavailable", "slow down", f.host(), repo)
		if got := f.count("GET", "/manifests/v1"); got != want {
			t.Errorf("Retries %d: asked %d times, want %d", retries, got, want)
		}
	}
}

func TestClient_finalErrorsAreNotRetried(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404} {
		f := newFixture(t)
		f.fault = always(status, 1000)
		_, _, err := f.client(t).Manifest(t.Context(), repo, "v1")
		if e := asError(t, err); e.Status != status || errors.Is(err, fs.ErrNotExist) != (status == 404) {
			t.Errorf("%d: got %v", status, err)
		}
		if got := f.count("GET", "/manifests/v1"); got != 1 {
			t.Errorf("%d: asked %d times", status, got)
		}
	}
}

func TestClient_waitEndsWithItsContext(t *testing.T) {
	f := newFixture(t)
	f.fault = always(http.StatusServiceUnavailable, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	c := f.client(t, func(o *Options) {
		o.Sleep = func(ctx context.Context, d time.Duration) error {
			cancel()
			return retry.Sleep(ctx, time.Hour)
		}
	})
	if _, _, err := c.Manifest(ctx, repo, "v1"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if got := f.count("GET", "/manifests/v1"); got != 1 {
		t.Errorf("%d requests", got)
	}
}

func TestPassing_whatMayPass(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"no such host":   {&net.DNSError{IsNotFound: true}, false},
		"stalled":        {&stallError{}, true},
		"another scheme": {&schemeError{}, false},
	} {
		if got := passing(test.err); got != test.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
