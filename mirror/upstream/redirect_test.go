package upstream

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/busy"
)

// signedStorage returns a fixture that redirects blobs to storage, whose addresses are good once.
// answer sees the nth request there, and false stands for the blob.
func signedStorage(t *testing.T, answer func(w http.ResponseWriter, r *http.Request, nth int32) bool) (f *fixture, given, asked *atomic.Int32) {
	t.Helper()
	f, given, asked = newFixture(t), new(atomic.Int32), new(atomic.Int32)
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nth := asked.Add(1)
		switch {
		case r.URL.Query().Get("signature") != fmt.Sprint(given.Load()):
			w.WriteHeader(http.StatusBadRequest) // an old address
		case answer(w, r, nth) || serveRange(w, r, f.layer):
		default:
			_, _ = w.Write(f.layer)
		}
	}))
	t.Cleanup(storage.Close)
	f.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		http.Redirect(w, r, fmt.Sprintf("%s/x?signature=%d", storage.URL, given.Add(1)), http.StatusTemporaryRedirect)
		return true
	}
	return f, given, asked
}

func TestClient_redirectedBlob_isAskedForAgain(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter, f []byte){
		"when the address has expired":    func(w http.ResponseWriter, _ []byte) { w.WriteHeader(http.StatusForbidden) },
		"when the signature is not taken": func(w http.ResponseWriter, _ []byte) { w.WriteHeader(http.StatusUnauthorized) },
		"when storage is busy":            func(w http.ResponseWriter, _ []byte) { w.WriteHeader(http.StatusServiceUnavailable) },
		"when the connection is lost":     func(http.ResponseWriter, []byte) { cut() },
		"when it is lost within the blob": func(w http.ResponseWriter, layer []byte) { sendPart(w, layer, 2<<20); cut() },
	} {
		t.Run(name, func(t *testing.T) {
			var f *fixture
			f, given, asked := signedStorage(t, func(w http.ResponseWriter, _ *http.Request, nth int32) bool {
				if nth == 1 {
					answer(w, f.layer)
				}
				return nth == 1
			})
			got, err := readBlob(t.Context(), f.client(t), f.blob)
			if err != nil || !bytes.Equal(got, f.layer) || given.Load() != 2 || asked.Load() != 2 {
				t.Errorf("got %d bytes, %v, with %d addresses and %d requests", len(got), err, given.Load(), asked.Load())
			}
		})
	}
	t.Run("when it expires while the blob is resumed", func(t *testing.T) {
		var f *fixture
		f, given, _ := signedStorage(t, func(w http.ResponseWriter, r *http.Request, nth int32) bool {
			switch nth {
			case 1:
				sendPart(w, f.layer, 1000)
				cut()
			case 2:
				w.WriteHeader(http.StatusForbidden)
				return true
			}
			if r.Header.Get("Range") != fmt.Sprintf("bytes=1000-%d", len(f.layer)-1) {
				t.Errorf("asked for %q", r.Header.Get("Range"))
			}
			return false
		})
		got, err := readBlob(t.Context(), f.client(t), f.blob)
		if err != nil || !bytes.Equal(got, f.layer) || given.Load() != 3 {
			t.Errorf("got %d bytes, %v, with %d addresses", len(got), err, given.Load())
		}
	})
	for name, answer := range map[string]struct {
		of   func(f *fixture, w http.ResponseWriter, nth int32) bool
		want int32 // addresses
	}{
		"when it has expired after storage was busy": {func(_ *fixture, w http.ResponseWriter, nth int32) bool {
			if nth == 1 {
				w.Header().Set("Retry-After", "2")
				w.WriteHeader(http.StatusServiceUnavailable)
			} else if nth <= 3 {
				w.WriteHeader(http.StatusForbidden)
			}
			return nth <= 3
		}, 4},
		"when this host is too slow to use it in time": {func(f *fixture, w http.ResponseWriter, nth int32) bool {
			if nth <= 4 {
				_ = f.sleep(t.Context(), time.Second) // since the address was given
				w.WriteHeader(http.StatusForbidden)
			}
			return nth <= 4
		}, 5},
		"when storage is busy for minutes": {func(_ *fixture, w http.ResponseWriter, nth int32) bool {
			if nth <= 20 {
				w.Header().Set("Retry-After", "20")
				w.WriteHeader(http.StatusTooManyRequests)
			}
			return nth <= 20
		}, 21},
	} {
		t.Run(name, func(t *testing.T) {
			var f *fixture
			f, given, _ := signedStorage(t, func(w http.ResponseWriter, _ *http.Request, nth int32) bool { return answer.of(f, w, nth) })
			got, err := readBlob(t.Context(), f.client(t, func(o *Options) { o.now = f.clock }), f.blob)
			if err != nil || !bytes.Equal(got, f.layer) || given.Load() != answer.want {
				t.Errorf("got %d bytes, %v, with %d addresses", len(got), err, given.Load())
			}
		})
	}
	t.Run("and not for ever", func(t *testing.T) {
		f, given, _ := signedStorage(t, func(w http.ResponseWriter, _ *http.Request, _ int32) bool {
			w.WriteHeader(http.StatusForbidden)
			return true
		})
		_, err := readBlob(t.Context(), f.client(t), f.blob)
		if e := asError(t, err); e.Status != http.StatusForbidden || given.Load() != maxRenewals+1 {
			t.Errorf("got %v after %d addresses", e, given.Load())
		}
	})
}

// A request that waits because another one was refused does not use the address that it had.
func TestClient_redirectedBlob_waitsWithoutAnAddress(t *testing.T) {
	f := newFixture(t)
	busyOnce, expired := true, 0
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case busyOnce:
			busyOnce = false
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Query().Get("at") != fmt.Sprint(f.clock().Unix()):
			expired++
			w.WriteHeader(http.StatusForbidden)
		default:
			_, _ = w.Write(f.layer)
		}
	}))
	t.Cleanup(storage.Close)
	f.fault = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, fmt.Sprintf("%s/x?at=%d", storage.URL, f.clock().Unix()), http.StatusTemporaryRedirect)
		}
		return strings.Contains(r.URL.Path, "/blobs/")
	}
	limits := busy.New(f.clock, nil)
	shared := func(o *Options) { o.Busy = limits }
	givesUp := func(o *Options) {
		o.Sleep = func(context.Context, time.Duration) error { return context.Canceled }
	}
	if _, err := readBlob(t.Context(), f.client(t, shared, givesUp), f.blob); err == nil || busyOnce {
		t.Fatalf("storage is not busy: %v, waits of %v", err, f.naps)
	}
	got, err := readBlob(t.Context(), f.client(t, shared), f.blob)
	if err != nil || !bytes.Equal(got, f.layer) || expired != 0 || len(f.naps) != 1 {
		t.Errorf("got %d bytes, %v, with %d expired addresses and waits of %v", len(got), err, expired, f.naps)
	}
}
