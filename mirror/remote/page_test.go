package remote_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/remote"
)

// A single sign-on is often in front of everything but /v2/ itself.
func TestRun_aLoginPageIsNoAnswer(t *testing.T) {
	data, desc := blob("x")
	body, m := image(desc)
	page := func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, "<!doctype html><title>Sign in</title>")
	}
	calls := map[string]func(*remote.Run) error{
		"blob exists": func(r *remote.Run) error {
			exists, err := hasBlob(t.Context(), r, "a", desc.Digest)
			if exists {
				t.Error("a page is taken for the blob")
			}
			return err
		},
		"manifest exists": func(r *remote.Run) error {
			_, _, _, err := r.Existing(t.Context(), nil, map[string][]digest.Digest{"a": {m.Digest}})
			return err
		},
		"put blob":     func(r *remote.Run) error { return r.PutBlob(t.Context(), "a", desc, bytes.NewReader(data)) },
		"put manifest": func(r *remote.Run) error { return r.PutManifest(t.Context(), "a", m, body) },
		"tag":          func(r *remote.Run) error { return r.Keep(t.Context(), "a", m, body, "v1") },
	}
	for how, answer := range map[string]func(http.ResponseWriter, *http.Request){
		"200": func(w http.ResponseWriter, _ *http.Request) { page(w) },
		"302": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login?next=x", http.StatusFound) },
	} {
		for what, call := range calls {
			t.Run(how+" "+what, func(t *testing.T) {
				s := plainRegistry(t)
				s.fails(func(w http.ResponseWriter, r *http.Request) bool {
					switch r.URL.Path {
					case "/v2/":
						return false
					case "/login":
						page(w)
					default:
						answer(w, r)
					}
					return true
				})
				err := call(open(t, s))
				if !refused(err) || !strings.Contains(err.Error(), "web page") || !strings.Contains(hint.Of(err), "open http://"+s.host+"/v2/_catalog") {
					t.Errorf("refused %v: %v\nhint: %s", refused(err), err, hint.Of(err))
				}
			})
		}
	}
}
