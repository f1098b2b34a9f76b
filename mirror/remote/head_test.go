package remote_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// Proxies refuse HEAD, or leave out what it is asked for.
func TestRun_headThatTellsLittle(t *testing.T) {
	for name, change := range map[string]func(w http.ResponseWriter, answer *httptest.ResponseRecorder){
		"no length": func(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
			answer.Header().Del("Content-Length")
			w.WriteHeader(answer.Code)
			w.(http.Flusher).Flush()
		},
		"no digest": func(w http.ResponseWriter, answer *httptest.ResponseRecorder) {
			w.Header().Del("Docker-Content-Digest")
			w.WriteHeader(answer.Code)
		},
		"405": func(w http.ResponseWriter, _ *httptest.ResponseRecorder) { w.WriteHeader(http.StatusMethodNotAllowed) },
	} {
		t.Run(name, func(t *testing.T) {
			s := plainRegistry(t)
			handler := s.handler
			s.fails(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodHead || name != "405" && strings.Contains(r.URL.Path, "/blobs/") {
					return false
				}
				answer := httptest.NewRecorder()
				handler.ServeHTTP(answer, r)
				for key, values := range answer.Header() {
					if name != "no length" || key != "Content-Length" {
						w.Header()[key] = values
					}
				}
				change(w, answer)
				return true
			})
			r := open(t, s)
			data, desc := blob("x")
			body, m := image(desc)
			for range 2 { // the second time all exists
				for _, err := range []error{
					r.PutBlob(t.Context(), "a", desc, bytes.NewReader(data)), r.PutManifest(t.Context(), "a", m, body),
					r.Tag(t.Context(), map[string]map[string]digest.Digest{"a": {"v1": m.Digest}}), r.Commit(t.Context()),
				} {
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			ask := map[string][]digest.Digest{"a": {desc.Digest, digest.FromString("absent")}}
			blobs, _, _, err := r.Existing(t.Context(), ask, nil)
			if len(blobs["a"]) != 1 || err != nil {
				t.Errorf("existing blobs are %v, %v", blobs, err)
			}
			_, manifests, _, err := r.Existing(t.Context(), nil, map[string][]digest.Digest{"a": {m.Digest, digest.FromString("absent")}})
			if len(manifests["a"]) != 1 || err != nil {
				t.Errorf("existing manifests are %v, %v", manifests, err)
			}
			if n := s.count(http.MethodPut, "/manifests/v1"); n != 1 {
				t.Errorf("the tag was set %d times", n)
			}
		})
	}
}
