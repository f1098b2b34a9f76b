package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/store"
)

// A refusal is an error of an upstream that says no.
type refusal struct {
	status int
	after  time.Duration
}

func (r refusal) Error() string                 { return "the account may not read it" }
func (r refusal) Refused() (int, time.Duration) { return r.status, r.after }

// podman shows the message of a 4xx, and only the status of a 5xx.
func TestUpstream_refuses(t *testing.T) {
	u, _, _ := newUpstream()
	f := newFixture(t, u)
	for _, c := range []struct {
		is     refusal
		status int
		code   string
		after  string
	}{
		{refusal{401, 0}, 403, codeDenied, ""}, // a 401 would ask for a login to this registry
		{refusal{403, 0}, 403, codeDenied, ""},
		{refusal{400, 0}, 403, codeDenied, ""},
		{refusal{451, 0}, 403, codeDenied, ""},
		{refusal{429, time.Hour}, 429, codeTooMany, "3600"},
		{refusal{429, 0}, 429, codeTooMany, ""},
		{refusal{0, 0}, 502, codeUnavailable, ""},
		{refusal{0, 1500 * time.Millisecond}, 502, codeUnavailable, "2"},
	} {
		u.fail = fmt.Errorf("pull through: %w", c.is)
		for _, path := range []string{"/v2/up/x/manifests/latest", "/v2/up/x/manifests/" + d256, "/v2/up/x/blobs/" + d256, "/v2/up/x/referrers/" + d256} {
			got := f.do(c.status, "GET", path, nil)
			if got.code(t) != c.code || !strings.Contains(string(got.body), "may not read") || got.Header.Get("Retry-After") != c.after || got.Header.Get("Www-Authenticate") != "" {
				t.Errorf("%+v: %s: %v %s", c.is, path, got.Header, got.body)
			}
			if !strings.Contains(path, "referrers") {
				f.do(c.status, "HEAD", path, nil).wantHeader(t, "Retry-After", c.after)
			}
		}
	}
	f.log.Reset() // these errors are expected
}

func TestUpstream_referrersAreMerged(t *testing.T) {
	u, _, _ := newUpstream()
	f := newFixture(t, u)
	// One that is stored, as by a mirror run.
	config := []byte("{}")
	body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"artifactType":"a/sig","config":{"mediaType":"a/b","digest":%q,"size":2},"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":5}}`,
		ocispec.MediaTypeImageManifest, digest.FromBytes(config), ocispec.MediaTypeImageManifest, d256)
	held := digest.FromBytes(body)
	if _, err := f.store.Manifests.PutPulled(t.Context(), "up/x", body, store.PutOptions{MediaType: ocispec.MediaTypeImageManifest}); err != nil {
		t.Fatal(err)
	}
	far := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("far"), Size: 7, ArtifactType: "a/sbom"}
	u.referrers = []ocispec.Descriptor{far, {MediaType: "x/y", Digest: held, Size: 1, ArtifactType: "a/wrong"}}
	for query, want := range map[string][]digest.Digest{
		"":                     {held, far.Digest},
		"?artifactType=a/sbom": {far.Digest},
		"?artifactType=a/sig":  {held},
		"?artifactType=a/none": {},
	} {
		got := map[digest.Digest]ocispec.Descriptor{}
		for path, pages := "/v2/up/x/referrers/"+d256+query, 0; path != "" && pages < 5; pages++ {
			answer := f.do(http.StatusOK, "GET", path, nil)
			var index ocispec.Index
			if err := json.Unmarshal(answer.body, &index); err != nil {
				t.Fatal(err)
			}
			for _, d := range index.Manifests {
				got[d.Digest] = d
			}
			path = ""
			if link := answer.Header.Get("Link"); link != "" {
				path = strings.TrimPrefix(strings.Split(link, ">")[0], "<")
			}
		}
		if len(got) != len(want) {
			t.Errorf("%q: got %v, want %v", query, got, want)
		}
		for _, d := range want {
			if got[d].MediaType != ocispec.MediaTypeImageManifest {
				t.Errorf("%q: %s is %+v", query, d, got[d])
			}
		}
	}
	if link := f.do(http.StatusOK, "GET", "/v2/up/x/referrers/"+d256+"?n=1", nil).Header.Get("Link"); link == "" {
		t.Error("the first page has no Link to the second")
	}
}

func TestUpstream_ns(t *testing.T) {
	u, m, content := newUpstream()
	f := newFixture(t, u)
	d := digest.FromBytes(content)
	for _, path := range []string{"/v2/x/manifests/latest", "/v2/x/manifests/" + m.Digest.String(), "/v2/x/blobs/" + d.String(), "/v2/x/referrers/" + m.Digest.String()} {
		f.do(http.StatusOK, "GET", path+"?ns=up.example", nil)
		f.do(http.StatusOK, "HEAD", path+"?ns=up.example", nil)
		if strings.Contains(path, "referrers") {
			continue // a repository that does not exist has none
		}
		for _, query := range []string{"", "?ns=", "?ns=other.example", "?nsx=up.example"} {
			f.do(http.StatusNotFound, "GET", path+query, nil)
		}
	}
	// ns= is for reads, not for pushes or deletes.
	f.do(http.StatusNotFound, "DELETE", "/v2/x/manifests/latest?ns=up.example", nil)
	f.do(http.StatusAccepted, "POST", "/v2/x/blobs/uploads/?ns=up.example", nil)
}

func TestGrants_ns(t *testing.T) {
	u, _, _ := newUpstream()
	f := newGuarded(t, Options{Upstream: u}, "x")
	for user, want := range map[string]int{"": 401, "team": 403, "node": 403, "pusher": 200, "init": 200} {
		if got := f.status("GET", "/v2/x/manifests/latest?ns=up.example", as(user)...); got != want {
			t.Errorf("%q: got %d, want %d: the grants are not those of the local repository", user, got, want)
		}
	}
	if n := u.asked.Load(); n != 2 {
		t.Errorf("the upstream was asked %d times", n)
	}
	asked := f.do(401, "GET", "/v2/x/manifests/latest?ns=up.example", nil, "Authorization", "Bearer expired")
	if got := strings.Join(asked.Header.Values("WWW-Authenticate"), " "); !strings.Contains(got, `scope="repository:up/x:pull"`) {
		t.Errorf("the challenge is %q: the scope is not that of the local repository", got)
	}
	open := newGuarded(t, Options{Upstream: u}, "up/*")
	if got := open.status("GET", "/v2/x/manifests/latest?ns=up.example"); got != 200 {
		t.Errorf("open to anonymous pulls: got %d", got)
	}
}

func TestUpstream_headFetchesNothing(t *testing.T) {
	u, m, content := newUpstream()
	f := newFixture(t, headOnly{u})
	for _, ref := range []string{"latest", m.Digest.String()} {
		got := f.do(http.StatusOK, "HEAD", "/v2/up/x/manifests/"+ref, nil)
		got.wantHeader(t, "Docker-Content-Digest", m.Digest.String())
		got.wantHeader(t, "Content-Type", m.MediaType)
		got.wantHeader(t, "Content-Length", fmt.Sprint(len(m.Body)))
	}
	f.do(http.StatusOK, "HEAD", "/v2/up/x/blobs/"+digest.FromBytes(content).String(), nil).wantHeader(t, "Content-Length", "5000")
	f.do(http.StatusNotFound, "HEAD", "/v2/up/x/manifests/none", nil)
	f.do(http.StatusNotFound, "HEAD", "/v2/up/x/blobs/"+d256, nil)
}

var errFetched = errors.New("it was fetched")

// headOnly is an upstream that fails the test on a fetch.
type headOnly struct{ *upstream }

func (headOnly) Manifest(context.Context, string, string) (store.Manifest, error) {
	return store.Manifest{}, errFetched
}

func (headOnly) Blob(context.Context, string, digest.Digest) (io.ReadSeekCloser, int64, error) {
	return nil, 0, errFetched
}

// The tags of a repository that is pulled through are those that are held and those of the upstream, in pages;
// a header tells when only those that are held are listed.
func TestTags_ofAnUpstream(t *testing.T) {
	u, _, _ := newUpstream()
	f := newFixture(t, u)
	empty := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	if _, err := f.store.Manifests.Put(t.Context(), "up/x", empty, store.PutOptions{MediaType: ocispec.MediaTypeImageIndex, Tags: []string{"b", "d"}}); err != nil {
		t.Fatal(err)
	}
	list := func(query string) (tags []string, header http.Header) {
		t.Helper()
		a := f.do(http.StatusOK, "GET", "/v2/up/x/tags/list"+query, nil)
		var got struct{ Tags []string }
		if err := json.Unmarshal(a.body, &got); err != nil {
			t.Fatal(err)
		}
		return got.Tags, a.Header
	}
	u.tags = []string{"e", "a", "b"}
	for query, want := range map[string]string{"": "a b d e", "?n=2": "a b", "?n=2&last=b": "d e", "?n=0": "", "?last=c": "d e", "?last=z": ""} {
		got, header := list(query)
		if strings.Join(got, " ") != want || header.Get("Warning") != "" || (header.Get("Link") != "") != (query == "?n=2") {
			t.Errorf("%s: %q, %v", query, got, header)
		}
	}
	u.fail = errors.New("it is down")
	got, header := list("")
	if strings.Join(got, " ") != "b d" || !strings.HasPrefix(header.Get("Warning"), "111 ") {
		t.Errorf("with the upstream down: %q, %v", got, header)
	}
	f.do(http.StatusBadGateway, "GET", "/v2/up/nothing/tags/list", nil)
	f.log.Reset() // it is expected
	u.fail = &store.NotFoundError{Kind: "repository", Name: "up/nothing"}
	f.do(http.StatusNotFound, "GET", "/v2/up/nothing/tags/list", nil)
	if got, header = list(""); strings.Join(got, " ") != "b d" || header.Get("Warning") != "" {
		t.Errorf("of a repository that the upstream does not have: %q, %v", got, header)
	}
}
