package oci

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/crypto/bcrypt"

	"github.com/mirror-appliance/appliance/registry/auth"
)

const password = "correct-horse"

// people are the users, all with the same password.
type people map[string]auth.Record

func (p people) Lookup(_ context.Context, name string) (auth.Record, bool, error) {
	r, ok := p[name]
	return r, ok, nil
}

// newGuarded returns a fixture that authenticates. Repositories below "open" are
// open to anonymous pulls.
func newGuarded(t *testing.T, o Options, open ...string) *fixture {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	a := auth.New(people{
		"init":   {Role: "admin", PasswordHash: hash, Repositories: []string{"nothing"}}, // which does not count
		"pusher": {Role: "push", PasswordHash: hash},
		"team":   {Role: "push", PasswordHash: hash, Repositories: []string{"team/*", "shared"}},
		"node":   {Role: "pull", PasswordHash: hash, Repositories: []string{"team/*"}},
	})
	a.Anonymous = open
	f := &fixture{t: t, dir: t.TempDir(), options: o, auth: a}
	f.open(o.Upstream)
	t.Cleanup(f.close)
	return f
}

// as returns the header of a user's login; "" is anonymous.
func as(user string) []string {
	if user == "" {
		return nil
	}
	return []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))}
}

// seed pushes an image to each repository without authentication.
func (f *fixture) seed(repos ...string) map[string]digest.Digest {
	f.t.Helper()
	guarded := f.server
	f.server = httptest.NewServer(f.api)
	defer func() { f.server.Close(); f.server = guarded }()
	digests := map[string]digest.Digest{}
	for i, repo := range repos {
		_, digests[repo] = f.pushImage(repo, "latest", uint64(100+i))
	}
	return digests
}

func TestGrants(t *testing.T) {
	f := newGuarded(t, Options{}, "open/*")
	f.seed("team/a/b", "shared", "other", "open/x")
	paths := func(repo string) [][2]string { // every route that has a name
		base := "/v2/" + repo
		return [][2]string{
			{"GET", base + "/tags/list"}, {"GET", base + "/manifests/latest"}, {"HEAD", base + "/manifests/" + d256},
			{"GET", base + "/blobs/" + d256}, {"HEAD", base + "/blobs/" + d256}, {"GET", base + "/referrers/" + d256},
			{"PUT", base + "/manifests/new"}, {"DELETE", base + "/manifests/none"}, {"DELETE", base + "/blobs/" + d256},
			{"POST", base + "/blobs/uploads/"}, {"GET", base + "/blobs/uploads/x"}, {"PATCH", base + "/blobs/uploads/x"},
			{"PUT", base + "/blobs/uploads/x"}, {"DELETE", base + "/blobs/uploads/x"},
		}
	}
	const reads, writes = 6, 8
	for _, c := range []struct {
		user, repo  string
		read, write int // status of a refusal, 0 for none
	}{
		{"init", "other", 0, 0},
		{"pusher", "other", 0, 0},
		{"team", "team/a/b", 0, 0},
		{"team", "shared", 0, 0},
		{"team", "other", 403, 403},
		{"team", "team", 403, 403},
		{"team", "shared/below", 403, 403},
		{"team", "open/x", 0, 403},
		{"node", "team/a/b", 0, 403},
		{"node", "open/x", 0, 403},
		{"node", "shared", 403, 403},
		{"", "open/x", 0, 401},
		{"", "other", 401, 401},
	} {
		if n := len(paths(c.repo)); n != reads+writes {
			t.Fatal(n)
		}
		for i, p := range paths(c.repo) {
			want := c.read
			if i >= reads {
				want = c.write
			}
			got := f.status(p[0], p[1], as(c.user)...)
			if want != 0 && got != want || want == 0 && (got == 401 || got == 403 || got >= 500) {
				t.Errorf("%q: %s %s: got %d, want %d", c.user, p[0], p[1], got, want)
			}
		}
	}
	if got := f.do(http.StatusForbidden, "GET", "/v2/other/tags/list", nil, as("team")...); got.code(t) != codeDenied {
		t.Errorf("%s", got.body)
	}
}

func (f *fixture) status(method, path string, headers ...string) int {
	f.t.Helper()
	req, err := http.NewRequest(method, f.server.URL+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := f.server.Client().Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// A manifest may refer to foreign content without making it readable.
func TestGrants_named(t *testing.T) {
	f := newGuarded(t, Options{})
	f.seed("other")
	other := digest.FromBytes(randomBytes(100, 1000)) // the layer of the image that seed made
	f.do(http.StatusCreated, "POST", "/v2/team/b/blobs/uploads/?digest="+digest.FromString("{}").String(), "{}", as("team")...)
	index := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":"a/b","digest":%q,"size":1000}]}`, other)
	foreign := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"a/b","digest":%q,"size":2},"layers":[{"mediaType":"a/b","digest":%q,"size":1000,"urls":["https://elsewhere.test"]}]}`,
		digest.FromString("{}"), other)
	for mediaType, body := range map[string]string{ocispec.MediaTypeImageIndex: index, ocispec.MediaTypeImageManifest: foreign} {
		f.do(http.StatusCreated, "PUT", "/v2/team/b/manifests/latest", body, append(as("team"), "Content-Type", mediaType)...)
		f.do(http.StatusNotFound, "GET", "/v2/team/b/blobs/"+other.String(), nil, as("team")...)
		f.do(http.StatusNotFound, "HEAD", "/v2/team/b/blobs/"+other.String(), nil, as("team")...)
		f.do(http.StatusAccepted, "POST", "/v2/team/c/blobs/uploads/?from=team/b&mount="+other.String(), nil, as("team")...)
	}
}

func TestGrants_catalog(t *testing.T) {
	f := newGuarded(t, Options{}, "open/*", "z")
	f.seed("a", "open/1", "open/2", "shared", "team/1", "team/2", "team/3/x", "teams", "z")
	visible := map[string][]string{
		"init":   {"a", "open/1", "open/2", "shared", "team/1", "team/2", "team/3/x", "teams", "z"},
		"pusher": {"a", "open/1", "open/2", "shared", "team/1", "team/2", "team/3/x", "teams", "z"},
		"team":   {"open/1", "open/2", "shared", "team/1", "team/2", "team/3/x", "z"},
		"node":   {"open/1", "open/2", "team/1", "team/2", "team/3/x", "z"},
		"":       {"open/1", "open/2", "z"},
	}
	for user, want := range visible {
		for n := 1; n <= len(want)+1; n++ {
			var got []string
			var pages int
			for path := fmt.Sprintf("/v2/_catalog?n=%d", n); path != ""; pages++ {
				page := f.do(http.StatusOK, "GET", path, nil, as(user)...)
				var list struct{ Repositories []string }
				if err := json.Unmarshal(page.body, &list); err != nil || len(list.Repositories) == 0 || len(list.Repositories) > n {
					t.Fatalf("%q, n=%d: %s (%v)", user, n, page.body, err)
				}
				got = append(got, list.Repositories...)
				path, _, _ = strings.Cut(strings.TrimPrefix(page.Header.Get("Link"), "<"), `>; rel="next"`)
			}
			if !slices.Equal(got, want) || pages != (len(want)+n-1)/n {
				t.Errorf("%q, n=%d: %v in %d pages", user, n, got, pages)
			}
		}
	}
}

// Clients with anonymous pulls enabled: crane asks /v2/ first and pushes only after a challenge.
func TestAnonymous_client(t *testing.T) {
	f := newGuarded(t, Options{}, "open/*")
	image, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	login := remote.WithAuth(&authn.Basic{Username: "pusher", Password: password})
	if err := remote.Write(f.ref("open/x:v1"), image, login); err != nil {
		t.Fatal(err)
	}
	got, err := remote.Image(f.ref("open/x:v1"))
	if err != nil {
		t.Fatal(err)
	}
	if a, b := digestOf(t, got), digestOf(t, image); a != b {
		t.Errorf("got %s, want %s", a, b)
	}
	if err := remote.Write(f.ref("open/x:v2"), image); err == nil {
		t.Error("an anonymous push was accepted")
	}
	if _, err := remote.Image(f.ref("open/x:v1"), remote.WithAuth(&authn.Basic{Username: "pusher", Password: "wrong"})); err == nil {
		t.Error("a wrong password was accepted")
	}
	// The requests of podman login and of podman's anonymous pulls.
	f.do(http.StatusUnauthorized, "GET", "/v2/", nil, "Docker-Distribution-Api-Version", "registry/2.0").wantHeader(t, "WWW-Authenticate", `Basic realm="appliance", charset="UTF-8"`)
	f.do(http.StatusUnauthorized, "GET", "/v2/", nil, "Authorization", "Basic Og==")
	f.do(http.StatusOK, "GET", "/v2/open/x/manifests/v1", nil, "Authorization", "Basic Og==")
	f.do(http.StatusOK, "GET", "/v2/", nil, as("node")...)
	// containerd sends a login only after a challenge to the request itself.
	f.do(http.StatusUnauthorized, "GET", "/v2/shut/manifests/v1", nil).wantHeader(t, "WWW-Authenticate", `Basic realm="appliance", charset="UTF-8"`)
}

func TestAudit(t *testing.T) {
	var lines bytes.Buffer
	f := newGuarded(t, Options{Audit: slog.New(slog.NewJSONHandler(&lines, nil))})
	f.seed("team/a")
	want := func(n int, fields map[string]string) {
		t.Helper()
		got := strings.Split(strings.TrimSuffix(lines.String(), "\n"), "\n")
		if lines.Len() == 0 || len(got) != n {
			t.Fatalf("%d lines, want %d:\n%s", len(got), n, &lines)
		}
		var line map[string]string
		if err := json.Unmarshal([]byte(got[n-1]), &line); err != nil {
			t.Fatal(err)
		}
		for name, value := range fields {
			if line[name] != value {
				t.Errorf("%s is %q, want %q, in %s", name, line[name], value, got[n-1])
			}
		}
		if line["msg"] != "audit" || !strings.HasPrefix(line["remote"], "127.0.0.1:") || len(line) != 9 || strings.Contains(lines.String(), password) {
			t.Errorf("%s", got[n-1])
		}
		lines.Reset()
	}
	lines.Reset()
	body := f.do(http.StatusOK, "GET", "/v2/team/a/manifests/latest", nil, as("team")...).body
	d := digest.FromBytes(body)
	if lines.Len() > 0 {
		t.Errorf("a pull is logged: %s", &lines)
	}
	mt := append(as("team"), "Content-Type", ocispec.MediaTypeImageManifest)
	f.do(http.StatusCreated, "PUT", "/v2/team/a/manifests/v1", body, mt...)
	want(1, map[string]string{"event": "push", "user": "team", "repository": "team/a", "tags": "v1", "digest": d.String()})
	f.do(http.StatusCreated, "PUT", "/v2/team/a/manifests/"+d.String()+"?tag=x&tag=y", body, mt...)
	want(1, map[string]string{"event": "push", "tags": "x,y", "digest": d.String()})
	f.do(http.StatusAccepted, "DELETE", "/v2/team/a/manifests/v1", nil, as("team")...)
	want(1, map[string]string{"event": "delete tag", "user": "team", "repository": "team/a", "tags": "v1", "digest": ""})
	f.do(http.StatusAccepted, "DELETE", "/v2/team/a/manifests/"+d.String(), nil, as("init")...)
	want(1, map[string]string{"event": "delete", "user": "init", "tags": "", "digest": d.String()})
	layer := digest.FromBytes(randomBytes(100, 1000))
	f.do(http.StatusAccepted, "DELETE", "/v2/team/a/blobs/"+layer.String(), nil, as("team")...)
	want(1, map[string]string{"event": "delete blob", "digest": layer.String()})
	for _, p := range []string{"/v2/team/a/manifests/none", "/v2/team/a/manifests/" + d.String(), "/v2/team/a/blobs/" + layer.String()} {
		f.do(http.StatusNotFound, "DELETE", p, nil, as("team")...)
	}
	f.do(http.StatusBadRequest, "PUT", "/v2/team/a/manifests/v1", "{}", mt...)
	if lines.Len() > 0 {
		t.Errorf("a refused request is logged as done: %s", &lines)
	}
}

// The uploads of one user are limited; those of others are not, and an ended one frees its place.
func TestMaxUploads(t *testing.T) {
	f := newGuarded(t, Options{MaxUploads: 2})
	ends := make(chan int, 2)
	var pipes []*io.PipeWriter
	for n := range 2 {
		location := f.do(http.StatusAccepted, "POST", "/v2/team/x/blobs/uploads/", nil, as("team")...).Header.Get("Location")
		r, w := io.Pipe()
		defer w.Close()
		pipes = append(pipes, w)
		go func() {
			req, err := http.NewRequest("PATCH", f.server.URL+location, r)
			if err != nil {
				ends <- 0
				return
			}
			req.Header.Set("Authorization", as("team")[1])
			resp, err := f.server.Client().Do(req)
			if err != nil {
				ends <- 0
				return
			}
			resp.Body.Close()
			ends <- resp.StatusCode
		}()
		for f.uploadsOf("team") <= n { // until its handler has begun
			select {
			case status := <-ends:
				t.Fatalf("an upload ended with %d before its body did", status)
			default:
				runtime.Gosched()
			}
		}
	}
	for _, p := range []string{"/v2/team/x/blobs/uploads/", "/v2/team/x/blobs/uploads/?digest=" + d256} {
		got := f.do(http.StatusTooManyRequests, "POST", p, nil, as("team")...)
		got.wantHeader(t, "Retry-After", "1")
		if got.code(t) != codeTooMany {
			t.Errorf("%s", got.body)
		}
	}
	f.do(http.StatusCreated, "POST", "/v2/team/y/blobs/uploads/?digest="+d256, nil, as("pusher")...)
	f.do(http.StatusNotFound, "GET", "/v2/team/x/manifests/none", nil, as("team")...)
	pipes[0].Close()
	if status := <-ends; status != http.StatusAccepted {
		t.Errorf("an upload ended with %d", status)
	}
	f.do(http.StatusCreated, "POST", "/v2/team/x/blobs/uploads/?digest="+d256, nil, as("team")...)
	pipes[1].Close()
	if status := <-ends; status != http.StatusAccepted {
		t.Errorf("an upload ended with %d", status)
	}
	if n := len(f.api.uploads.active); n != 0 {
		t.Errorf("%d users are still counted", n)
	}
}

// uploadsOf returns the number of counted uploads of a user.
func (f *fixture) uploadsOf(user string) int {
	f.api.uploads.mu.Lock()
	defer f.api.uploads.mu.Unlock()
	return f.api.uploads.active[user]
}
