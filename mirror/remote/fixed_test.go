package remote_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/remote"
)

// wasSet is a registry that lets a tag be set once. lost: the answer to that does not arrive.
func wasSet(t *testing.T, s *server, lost bool, status int, answer string) {
	t.Helper()
	set := map[string]bool{}
	handler := s.handler
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || strings.Contains(r.URL.Path, ":") || !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		if set[r.URL.Path] {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			fmt.Fprint(w, answer)
			return true
		}
		set[r.URL.Path] = true
		if lost {
			handler.ServeHTTP(discarded{http.Header{}}, r)
			panic(http.ErrAbortHandler)
		}
		return false
	})
}

func TestKeep_aTagThatIsImmutable(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		answer string
	}{
		"ECR":         {400, `{"errors":[{"code":"TAG_INVALID","message":"The image tag 'v1' already exists in the 'a' repository and cannot be overwritten because the tag is immutable."}]}`},
		"Harbor":      {412, `{"errors":[{"code":"PRECONDITION","message":"Failed to process request due to 'a:v1' configured as immutable."}]}`},
		"Quay":        {409, `{"errors":[{"code":"TAG_IMMUTABLE","message":"tag is immutable"}]}`},
		"Nexus":       {400, `{"errors":[{"code":"INVALID","message":"Repository does not allow updating assets: a"}]}`},
		"Artifactory": {403, `{"errors":[{"code":"DENIED","message":"Not enough permissions to delete/overwrite artifact 'a/v1/manifest.json'"}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			s := plainRegistry(t)
			wasSet(t, s, false, test.status, test.answer)
			old, was := putBlobs(t, open(t, s), "x")
			if err := open(t, s).Keep(t.Context(), "a", was, old, "v1"); err != nil {
				t.Fatal(err)
			}
			r := open(t, s)
			if err := r.Keep(t.Context(), "a", was, old, "v1"); err != nil {
				t.Errorf("a tag that does not move: %v", err)
			}
			body, m := putBlobs(t, r, "y")
			if _, _, _, err := r.Existing(t.Context(), nil, map[string][]digest.Digest{"a": {m.Digest}}); err != nil {
				t.Fatal(err)
			}
			err := r.Keep(t.Context(), "a", m, body, "v1")
			if !refused(err) || !strings.Contains(err.Error(), "tag a:v1: it names "+was.Digest.String()+" there and may not be moved") ||
				!strings.Contains(hint.Of(err), "immutable") {
				t.Errorf("refused %v: %v\nhint: %s", refused(err), err, hint.Of(err))
			}
			if get(t, s, "a", m.Digest.String()) != string(body) {
				t.Error("the new image cannot be pulled by digest")
			}
			if err := r.Keep(t.Context(), "a", m, body, "v2"); err != nil {
				t.Errorf("another tag: %v", err)
			}
		})
	}
}

// An answer that was lost does not tell that the tag is set, and what is set may not be set again.
func TestKeep_anImmutableTagWhoseAnswerWasLost(t *testing.T) {
	for name, keep := range map[string]func(r *remote.Run, tags map[string]digest.Digest, put func() error) error{
		"early": func(_ *remote.Run, _ map[string]digest.Digest, put func() error) error { return put() },
		"at the commit": func(r *remote.Run, tags map[string]digest.Digest, _ func() error) error {
			if err := r.Tag(t.Context(), map[string]map[string]digest.Digest{"a": tags}); err != nil {
				return err
			}
			return r.Commit(t.Context())
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := plainRegistry(t)
			r := open(t, s)
			body, m := putBlobs(t, r, "x")
			if err := r.PutManifest(t.Context(), "a", m, body); err != nil {
				t.Fatal(err)
			}
			wasSet(t, s, true, 409, `{"errors":[{"code":"TAG_IMMUTABLE","message":"tag is immutable"}]}`)
			do := func() error {
				return keep(r, map[string]digest.Digest{"v1": m.Digest}, func() error { return r.Keep(t.Context(), "a", m, body, "v1") })
			}
			err := do()
			for n := 0; err != nil && n < 2; n++ { // as the engine does
				err = do()
			}
			if err != nil || get(t, s, "a", "v1") != string(body) {
				t.Errorf("error %v", err)
			}
		})
	}
}
