package oci

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// token requests a token for a user, "" for anonymous, and returns its header.
func (f *fixture) token(user string, scopes ...string) []string {
	f.t.Helper()
	r := httptest.NewRequest("GET", "/v2/auth?"+url.Values{"scope": scopes}.Encode(), nil)
	if login := as(user); login != nil {
		r.Header.Set(login[0], login[1])
	}
	w := httptest.NewRecorder()
	f.server.Config.Handler.ServeHTTP(w, r)
	var answer struct{ Token string }
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Token == "" {
		f.t.Fatalf("%q: %d %s", user, w.Code, w.Body)
	}
	return []string{"Authorization", "Bearer " + answer.Token}
}

// A token allows what its scopes and its user's rights both allow. If the user may have a better
// token, the challenge has its scope.
func TestToken(t *testing.T) {
	f := newGuarded(t, Options{}, "open/*")
	f.seed("team/a", "other", "open/x")
	const none = ""
	for _, c := range []struct {
		user, scope, method, path string
		want                      int
		challenge                 string // the scope of it
	}{
		{"team", "repository:team/a:pull", "GET", "/v2/team/a/manifests/latest", 200, none},
		{"team", "repository:team/a:pull", "GET", "/v2/team/a/tags/list", 200, none},
		{"team", "repository:team/a:pull", "GET", "/v2/team/a/referrers/" + d256, 200, none},
		{"team", "repository:team/a:pull", "HEAD", "/v2/team/a/blobs/" + d256, 404, none},
		{"team", "repository:team/a:pull", "POST", "/v2/team/a/blobs/uploads/", 401, "repository:team/a:pull,push"},
		{"team", "repository:team/a:pull", "GET", "/v2/team/a/blobs/uploads/x", 401, "repository:team/a:pull,push"},
		{"team", "repository:team/a:pull", "DELETE", "/v2/team/a/manifests/none", 401, "repository:team/a:pull,delete"},
		{"team", "repository:team/a:pull,push", "DELETE", "/v2/team/a/manifests/none", 401, "repository:team/a:pull,delete"},
		{"team", "repository:team/a:pull,push", "POST", "/v2/team/a/blobs/uploads/", 202, none},
		{"team", "repository:team/a:push", "POST", "/v2/team/a/blobs/uploads/", 202, none},
		{"team", "repository:team/a:delete", "DELETE", "/v2/team/a/manifests/none", 404, none},
		{"team", "repository:team/a:*", "DELETE", "/v2/team/a/blobs/uploads/x", 404, none},
		{"team", "repository:team/a:pull", "GET", "/v2/team/b/manifests/latest", 401, "repository:team/b:pull"},
		{"team", "repository:other:pull", "GET", "/v2/other/manifests/latest", 403, none},
		{"team", "repository:nowhere:pull", "GET", "/v2/nowhere/manifests/latest", 403, none},
		{"team", "repository:team/a:pull", "GET", "/v2/_catalog", 401, "registry:catalog:*"},
		{"team", "registry:catalog:*", "GET", "/v2/_catalog", 200, none},
		{"team", none, "GET", "/v2/", 200, none},
		{"node", "repository:team/a:pull,push", "POST", "/v2/team/a/blobs/uploads/", 403, none},
		{"", "repository:open/x:pull", "GET", "/v2/open/x/manifests/latest", 200, none},
		{"", "repository:open/x:pull,push", "POST", "/v2/open/x/blobs/uploads/", 401, "repository:open/x:pull,push"},
		{"", "repository:open/x:*", "DELETE", "/v2/open/x/manifests/latest", 401, "repository:open/x:pull,delete"},
		{"", "repository:other:pull", "GET", "/v2/other/manifests/latest", 401, "repository:other:pull"},
		{"", "repository:nowhere:pull", "GET", "/v2/nowhere/manifests/latest", 401, "repository:nowhere:pull"},
		{"", none, "GET", "/v2/", 200, none},
	} {
		got := f.do(c.want, c.method, c.path, nil, f.token(c.user, c.scope)...)
		challenge := got.Header.Get("WWW-Authenticate")
		if c.challenge == none && challenge != "" || c.challenge != none &&
			(!strings.HasPrefix(challenge, "Bearer ") || !strings.Contains(challenge, `scope="`+c.challenge+`"`) || !strings.Contains(challenge, `error="insufficient_scope"`)) {
			t.Errorf("%q with %s: %s %s: %s", c.user, c.scope, c.method, c.path, challenge)
		}
	}
	catalog := f.do(http.StatusOK, "GET", "/v2/_catalog", nil, f.token("team", "registry:catalog:*")...)
	if body := string(catalog.body); strings.Contains(body, "other") || !strings.Contains(body, "team/a") || !strings.Contains(body, "open/x") {
		t.Errorf("the catalog of a token is %s", body)
	}
}

// A token mounts only from repositories that it may pull from.
func TestToken_mount(t *testing.T) {
	f := newGuarded(t, Options{}, "open/*")
	f.seed("team/a")
	layer := digest.FromBytes(randomBytes(100, 1000)).String() // of the image from seed
	post := func(status int, scopes ...string) {
		t.Helper()
		for _, from := range []string{"", "&from=team/a"} {
			f.do(status, "POST", "/v2/team/b/blobs/uploads/?mount="+layer+from, nil, f.token("team", scopes...)...)
		}
	}
	post(http.StatusAccepted, "repository:team/b:pull,push")
	post(http.StatusCreated, "repository:team/b:pull,push", "repository:team/a:pull")
}

// No answer reveals whether a repository exists that the user may not read.
func TestGrants_nothingIsTold(t *testing.T) {
	f := newGuarded(t, Options{}, "open/*")
	f.seed("secret/x")
	body := f.do(http.StatusOK, "GET", "/v2/secret/x/manifests/latest", nil, as("init")...).body
	var manifest struct{ Layers []struct{ Digest string } }
	if err := json.Unmarshal(body, &manifest); err != nil {
		t.Fatal(err)
	}
	session := f.do(http.StatusAccepted, "POST", "/v2/secret/x/blobs/uploads/", nil, as("init")...).Header.Get("Location")
	_, session, _ = strings.Cut(session, "/v2/secret/x")
	for _, user := range []string{"", "node", "team"} {
		logins := [][]string{as(user), f.token(user, "repository:secret/x:*", "repository:secret/y:*")}
		for _, request := range [][2]string{
			{"GET", "/tags/list"}, {"GET", "/tags/list?n=0"}, {"GET", "/manifests/latest"}, {"HEAD", "/manifests/latest"},
			{"GET", "/blobs/" + manifest.Layers[0].Digest}, {"HEAD", "/blobs/" + manifest.Layers[0].Digest}, {"GET", "/referrers/" + d256},
			{"GET", session}, {"HEAD", session}, {"PATCH", session}, {"PUT", session}, {"DELETE", session},
			{"PUT", "/manifests/latest"}, {"DELETE", "/manifests/latest"}, {"DELETE", "/blobs/" + manifest.Layers[0].Digest},
			{"POST", "/blobs/uploads/"}, {"POST", "/blobs/uploads/?mount=" + manifest.Layers[0].Digest + "&from=secret/x"},
		} {
			for _, login := range logins {
				there, status := f.answer(request[0], "/v2/secret/x"+request[1], login)
				absent, _ := f.answer(request[0], "/v2/secret/y"+request[1], login)
				if there != strings.ReplaceAll(absent, "secret/y", "secret/x") || status != 401 && status != 403 {
					t.Errorf("%q: %v\n%s\n%s", user, request, there, absent)
				}
			}
		}
	}
	// A session of another repository is as unknown as one that does not exist.
	foreign, status := f.answer("GET", "/v2/team/a"+session, as("team"))
	if unknown, _ := f.answer("GET", "/v2/team/a/blobs/uploads/6ba7b810-9dad-11d1-80b4-00c04fd430c8", as("team")); status != http.StatusNotFound || foreign != unknown {
		t.Errorf("a session of another repository:\n%s\nnone:\n%s", foreign, unknown)
	}
}

// answer returns all of an answer that can differ: status, headers without the date, body.
func (f *fixture) answer(method, path string, login []string) (text string, status int) {
	f.t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, nil)
	if login != nil {
		r.Header.Set(login[0], login[1])
	}
	f.server.Config.Handler.ServeHTTP(w, r)
	var all strings.Builder
	if err := w.Result().Header.Write(&all); err != nil {
		f.t.Fatal(err)
	}
	return all.String() + w.Body.String(), w.Code
}
