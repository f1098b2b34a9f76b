package remote_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/remote"
)

// quay grants nothing to a token for pull in a repository that does not exist, and creates
// one for a token for push.
type quay struct {
	host string

	mu    sync.Mutex // guards repos
	repos map[string]bool
}

var within = regexp.MustCompile(`^/v2/(.+)/(manifests|blobs)/`)

// answers answers what is not to reach the registry.
func (q *quay) answers(w http.ResponseWriter, r *http.Request) bool {
	if r.URL.Path == "/token" {
		q.token(w, r)
		return true
	}
	scope, need := "", "pull"
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		need = "push"
	}
	if m := within.FindStringSubmatch(r.URL.Path); m != nil {
		scope = "repository:" + m[1] + ":"
	}
	var granted []string
	ok := json.Unmarshal([]byte(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")), &granted) == nil
	if ok && (scope == "" || slices.Contains(granted, scope+need)) {
		return false
	}
	_, _ = io.Copy(io.Discard, r.Body)
	challenge := `Bearer realm="http://` + q.host + `/token",service="x"`
	if scope != "" {
		challenge += `,scope="` + scope + map[string]string{"pull": "pull", "push": "pull,push"}[need] + `"`
	}
	w.Header().Set("WWW-Authenticate", challenge)
	w.WriteHeader(http.StatusUnauthorized)
	return true
}

func (q *quay) token(w http.ResponseWriter, r *http.Request) {
	if _, password, _ := r.BasicAuth(); password != "right" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	granted := []string{}
	for _, scope := range r.URL.Query()["scope"] {
		i := strings.LastIndex(scope, ":") + 1
		actions := strings.Split(scope[i:], ",")
		if slices.Contains(actions, "push") {
			q.repos[scope[:i]] = true
		}
		for _, a := range actions {
			if q.repos[scope[:i]] {
				granted = append(granted, scope[:i]+a)
			}
		}
	}
	token, _ := json.Marshal(granted)
	answer, _ := json.Marshal(map[string]string{"token": string(token)})
	_, _ = w.Write(answer)
}

type keychain struct{ password string }

func (k keychain) Resolve(authn.Resource) (authn.Authenticator, error) {
	return &authn.Basic{Username: "u", Password: k.password}, nil
}

func TestRun_aRepositoryThatIsNotThereYet(t *testing.T) {
	s := plainRegistry(t)
	q := &quay{host: s.host, repos: map[string]bool{}}
	s.fails(q.answers)
	login := func(password string) *remote.Run {
		r, err := remote.Open(remote.Options{Registry: s.host, PlainHTTP: true, Keychain: keychain{password}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	data, desc := blob("x")
	body, m := image(desc)
	ask := map[string][]digest.Digest{"ns/new": {desc.Digest}}
	t.Run("is not taken for absent with a wrong password", func(t *testing.T) {
		if _, _, _, err := login("wrong").Existing(t.Context(), ask, nil); err == nil || !strings.Contains(err.Error(), "401") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("is created by a push", func(t *testing.T) {
		r := login("right")
		blobs, manifests, _, err := r.Existing(t.Context(), ask, map[string][]digest.Digest{"ns/new": {m.Digest}})
		if len(blobs) != 0 || len(manifests) != 0 || err != nil {
			t.Errorf("existing are %v and %v, %v", blobs, manifests, err)
		}
		for _, err := range []error{
			r.PutBlob(t.Context(), "ns/new", desc, bytes.NewReader(data)), r.PutManifest(t.Context(), "ns/new", m, body),
			r.Tag(t.Context(), map[string]map[string]digest.Digest{"ns/new": {"v1": m.Digest}}), r.Commit(t.Context()),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if n := s.count(http.MethodPut, "/manifests/v1"); n != 1 {
			t.Errorf("the tag was set %d times", n)
		}
		if existing, _, _, err := r.Existing(t.Context(), ask, nil); len(existing["ns/new"]) != 1 || err != nil {
			t.Errorf("existing afterwards are %v, %v", existing, err)
		}
	})
	t.Run("or not, where it may not write", func(t *testing.T) {
		s.fails(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/" {
				return false
			}
			w.WriteHeader(http.StatusForbidden)
			return true
		})
		r := login("right")
		if existing, _, _, err := r.Existing(t.Context(), ask, nil); len(existing) != 0 || err != nil {
			t.Errorf("existing are %v, %v", existing, err)
		}
		if err := r.PutManifest(t.Context(), "ns/new", m, body); err == nil || !strings.Contains(err.Error(), "403") {
			t.Errorf("error %v", err)
		}
	})
}
