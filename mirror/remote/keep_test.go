package remote_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror/remote"
)

// putBlobs puts the blob of an image and returns the image.
func putBlobs(t *testing.T, r *remote.Run, text string) ([]byte, ocispec.Descriptor) {
	t.Helper()
	data, desc := blob(text)
	if err := r.PutBlob(t.Context(), "a", desc, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	return image(desc)
}

func TestKeep(t *testing.T) {
	s := plainRegistry(t)
	r := open(t, s)
	body, m := putBlobs(t, r, "x")
	for range 2 { // the engine repeats it when an answer is lost
		if err := r.Keep(t.Context(), "a", m, body, "v1", "v2"); err != nil {
			t.Fatal(err)
		}
	}
	for _, ref := range []string{"v1", "v2", m.Digest.String()} {
		if get(t, s, "a", ref) != string(body) {
			t.Errorf("%s is not visible", ref)
		}
	}
	tags := map[string]map[string]digest.Digest{"a": {"v1": m.Digest, "v2": m.Digest}}
	requests := func() int {
		return s.count(http.MethodGet, "") + s.count(http.MethodHead, "") + s.count(http.MethodPut, "")
	}
	before := requests()
	if err := r.Tag(t.Context(), tags); err != nil {
		t.Fatal(err)
	}
	if err := r.Commit(t.Context()); err != nil || requests() != before {
		t.Errorf("%v after %d more requests for tags that are set", err, requests()-before)
	}
	r = open(t, s)
	if err := r.Keep(t.Context(), "a", m, body, "v1"); err != nil || s.count(http.MethodPut, "/manifests/v1") != 1 {
		t.Errorf("%v; a tag that was right was set again", err)
	}
}

func TestKeep_aTagThatIsRefused(t *testing.T) {
	s := plainRegistry(t)
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		fixed := r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/manifests/fixed")
		if fixed {
			w.WriteHeader(http.StatusForbidden)
		}
		return fixed
	})
	r := open(t, s)
	body, m := putBlobs(t, r, "x")
	if _, _, _, err := r.Existing(t.Context(), nil, map[string][]digest.Digest{"a": {m.Digest}}); err != nil {
		t.Fatal(err)
	}
	if err := r.Keep(t.Context(), "a", m, body, "fixed"); !refused(err) || !strings.Contains(err.Error(), "tag a:fixed") {
		t.Errorf("error %v", err)
	}
	if get(t, s, "a", m.Digest.String()) != string(body) {
		t.Error("the image cannot be pulled by digest either")
	}
}

// The registry is not asked again for what it has said or acknowledged.
func TestRun_asksOnce(t *testing.T) {
	s := plainRegistry(t)
	r := open(t, s)
	data, desc := blob("x")
	for range 3 {
		if exists, err := hasBlob(t.Context(), r, "a", desc.Digest); exists || err != nil {
			t.Fatalf("exists %v, %v", exists, err)
		}
	}
	if err := r.PutBlob(t.Context(), "a", desc, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if exists, err := hasBlob(t.Context(), r, "a", desc.Digest); !exists || err != nil {
		t.Errorf("after the put exists %v, %v", exists, err)
	}
	body, m := image(desc)
	if err := r.PutManifest(t.Context(), "a", m, body); err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]int{"HEAD /v2/a/blobs/": 1, "GET /v2/": 1, "POST": 1, "PATCH": 1, "PUT": 2} {
		method, path, _ := strings.Cut(what, " ")
		if got := s.count(method, path); got != want {
			t.Errorf("%s: %d requests, want %d", what, got, want)
		}
	}
}

// After an upload that failed it is not known whether the registry has the blob.
func TestRun_asksAgainAfterAFailure(t *testing.T) {
	s := plainRegistry(t)
	r := open(t, s)
	data, desc := blob("x")
	if _, err := hasBlob(t.Context(), r, "a", desc.Digest); err != nil {
		t.Fatal(err)
	}
	handler := s.handler
	s.fails(func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method != http.MethodPut {
			return false
		}
		handler.ServeHTTP(discarded{http.Header{}}, req)
		panic(http.ErrAbortHandler) // done, and the answer is lost
	})
	if err := r.PutBlob(t.Context(), "a", desc, bytes.NewReader(data)); err == nil {
		t.Fatal("no error")
	}
	s.fails(nil)
	if err := r.PutBlob(t.Context(), "a", desc, bytes.NewReader(data)); err != nil || s.count(http.MethodPatch, "") != 1 {
		t.Errorf("%v after %d uploads", err, s.count(http.MethodPatch, ""))
	}
}

// discarded is an answer that does not arrive.
type discarded struct{ header http.Header }

func (d discarded) Header() http.Header         { return d.header }
func (d discarded) Write(p []byte) (int, error) { return len(p), nil }
func (d discarded) WriteHeader(int)             {}
