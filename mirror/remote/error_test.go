package remote_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
)

func refused(err error) bool {
	var answer interface{ Refused() bool }
	return errors.As(err, &answer) && answer.Refused()
}

func TestRun_refusalsThatAreFinal(t *testing.T) {
	data, desc := blob("x")
	for status, want := range map[int]bool{
		400: false, 401: false, 403: true, 404: false, 405: true, 408: false, 409: false, 412: true, 413: true, 422: true, 429: false,
		500: false, 501: true, 502: false, 503: false, 507: true,
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			s := plainRegistry(t)
			s.fails(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPatch {
					w.WriteHeader(status)
				}
				return r.Method == http.MethodPatch
			})
			err := open(t, s).PutBlob(t.Context(), "a", desc, bytes.NewReader(data))
			if err == nil || refused(err) != want {
				t.Errorf("refused %v: %v", refused(err), err)
			}
		})
	}
}

// A commit is worth repeating for one tag that may pass, whatever became of the others.
func TestCommit_refusedWhenAllThatFailedIs(t *testing.T) {
	for status, want := range map[int]bool{http.StatusForbidden: true, http.StatusConflict: false} {
		s := plainRegistry(t)
		r := open(t, s)
		data, desc := blob("x")
		body, m := image(desc)
		for _, err := range []error{
			r.PutBlob(t.Context(), "a", desc, bytes.NewReader(data)), r.PutManifest(t.Context(), "a", m, body),
			r.Tag(t.Context(), map[string]map[string]digest.Digest{"a": {"fixed": m.Digest}}),
			r.Tag(t.Context(), map[string]map[string]digest.Digest{"a": {"other": m.Digest}}),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		s.fails(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut {
				return false
			}
			if r.URL.Path == "/v2/a/manifests/other" {
				w.WriteHeader(status)
			} else {
				w.WriteHeader(http.StatusForbidden)
			}
			return true
		})
		if err := r.Commit(t.Context()); err == nil || refused(err) != want {
			t.Errorf("%d: refused %v: %v", status, refused(err), err)
		}
	}
}

// What can be sent again is, without a word; of a blob the engine opens the source again.
func TestRun_aBusyRegistry(t *testing.T) {
	s := plainRegistry(t)
	var mu sync.Mutex // guards asked
	asked := map[string]int{}
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		kind := r.Method
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
			kind = "manifest"
		}
		asked[kind]++
		if asked[kind] == 1 {
			w.WriteHeader(http.StatusTooManyRequests)
		}
		return asked[kind] == 1
	})
	r := open(t, s)
	data, desc := blob("x")
	body, m := image(desc)
	if exists, err := hasBlob(t.Context(), r, "a", desc.Digest); exists || err != nil {
		t.Errorf("exists %v, %v", exists, err)
	}
	var pause interface{ Busy() bool }
	if err := r.PutBlob(t.Context(), "a", desc, bytes.NewReader(data)); !errors.As(err, &pause) || !pause.Busy() || refused(err) {
		t.Errorf("a body that is gone: %v", err)
	}
	for _, err := range []error{r.PutBlob(t.Context(), "a", desc, bytes.NewReader(data)), r.PutManifest(t.Context(), "a", m, body)} {
		if err != nil {
			t.Error(err)
		}
	}
	for kind, n := range map[string]int{http.MethodPatch: 2, "manifest": 2} {
		if asked[kind] != n {
			t.Errorf("%s: %d requests, want %d", kind, asked[kind], n)
		}
	}
}
