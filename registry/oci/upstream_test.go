package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/store"
)

// upstream serves repositories below "up/" from memory and stores nothing.
type upstream struct {
	manifests map[string]store.Manifest // by repository/reference
	blobs     map[digest.Digest][]byte
	referrers []ocispec.Descriptor
	tags      []string
	fail      error
	asked     atomic.Int32
	open      atomic.Int32 // blobs not closed yet
}

func (u *upstream) Held(string) {}

func (u *upstream) Serves(repo string) bool { return strings.HasPrefix(repo, "up/") }

func (u *upstream) Manifest(_ context.Context, repo, ref string) (store.Manifest, error) {
	u.asked.Add(1)
	m, ok := u.manifests[repo+"/"+ref]
	if u.fail != nil {
		return store.Manifest{}, u.fail
	}
	if !ok {
		return store.Manifest{}, &store.NotFoundError{Kind: "manifest", Name: ref}
	}
	return m, nil
}

func (u *upstream) Resolve(ctx context.Context, repo, ref string) (ocispec.Descriptor, error) {
	m, err := u.Manifest(ctx, repo, ref)
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Body))}, err
}

func (u *upstream) Stat(_ context.Context, _ string, d digest.Digest) (int64, error) {
	u.asked.Add(1)
	content, ok := u.blobs[d]
	if !ok && u.fail == nil {
		return 0, &store.NotFoundError{Kind: "blob", Name: d.String()}
	}
	return int64(len(content)), u.fail
}

func (u *upstream) Referrers(context.Context, string, digest.Digest) ([]ocispec.Descriptor, error) {
	u.asked.Add(1)
	return u.referrers, u.fail
}

func (u *upstream) Tags(context.Context, string, bool) ([]string, error) {
	u.asked.Add(1)
	return u.tags, u.fail
}

func (u *upstream) Locate(host, repo string) (string, bool) {
	return "up/" + repo, host == "up.example"
}

func (u *upstream) Blob(_ context.Context, _ string, d digest.Digest) (io.ReadSeekCloser, int64, error) {
	u.asked.Add(1)
	content, ok := u.blobs[d]
	if u.fail != nil {
		return nil, 0, u.fail
	}
	if !ok {
		return nil, 0, &store.NotFoundError{Kind: "blob", Name: d.String()}
	}
	u.open.Add(1)
	return &upstreamBlob{bytes.NewReader(content), u}, int64(len(content)), nil
}

type upstreamBlob struct {
	*bytes.Reader
	u *upstream
}

func (b *upstreamBlob) Close() error { b.u.open.Add(-1); return nil }

func newUpstream() (*upstream, store.Manifest, []byte) {
	content := randomBytes(1, 5000)
	body := fmt.Appendf(nil, `{"schemaVersion":2,"config":{"mediaType":"x/y","digest":%q,"size":5000},"layers":[]}`, digest.FromBytes(content))
	m := store.Manifest{Digest: digest.FromBytes(body), MediaType: ocispec.MediaTypeImageManifest, Body: body}
	return &upstream{
		manifests: map[string]store.Manifest{"up/x/latest": m, "up/x/" + m.Digest.String(): m},
		blobs:     map[digest.Digest][]byte{digest.FromBytes(content): content},
	}, m, content
}

func TestUpstream_miss(t *testing.T) {
	u, m, content := newUpstream()
	f := newFixture(t, u)
	for _, ref := range []string{"latest", m.Digest.String()} {
		got := f.do(http.StatusOK, "GET", "/v2/up/x/manifests/"+ref, nil)
		got.wantHeader(t, "Content-Type", m.MediaType)
		got.wantHeader(t, "Docker-Content-Digest", m.Digest.String())
		if !bytes.Equal(got.body, m.Body) {
			t.Errorf("%s: %q", ref, got.body)
		}
		f.do(http.StatusOK, "HEAD", "/v2/up/x/manifests/"+ref, nil).wantHeader(t, "Content-Length", fmt.Sprint(len(m.Body)))
	}
	d := digest.FromBytes(content)
	f.wantBlob("up/x", d, content)
	f.do(http.StatusOK, "HEAD", "/v2/up/x/blobs/"+d.String(), nil).wantHeader(t, "Content-Length", "5000")
	if got := f.do(http.StatusPartialContent, "GET", "/v2/up/x/blobs/"+d.String(), nil, "Range", "bytes=100-199"); !bytes.Equal(got.body, content[100:200]) {
		t.Error("wrong range")
	}
	f.do(http.StatusRequestedRangeNotSatisfiable, "GET", "/v2/up/x/blobs/"+d.String(), nil, "Range", "bytes=5000-").code(t)
	if n := u.open.Load(); n != 0 {
		t.Errorf("%d blobs of the upstream were not closed", n)
	}
	if got := f.do(http.StatusNotFound, "GET", "/v2/up/x/manifests/none", nil); got.code(t) != codeManifestUnknown {
		t.Errorf("%s", got.body)
	}
	if got := f.do(http.StatusNotFound, "GET", "/v2/up/x/blobs/"+d256, nil); got.code(t) != codeBlobUnknown {
		t.Errorf("%s", got.body)
	}
}

// The upstream is asked only for its repositories, and for tags and absent content only.
func TestUpstream_notAsked(t *testing.T) {
	u, m, content := newUpstream()
	f := newFixture(t, u)
	f.pushImage("mine", "latest", 1)
	f.do(http.StatusOK, "GET", "/v2/mine/manifests/latest", nil)
	f.do(http.StatusNotFound, "GET", "/v2/mine/manifests/none", nil)
	f.do(http.StatusNotFound, "GET", "/v2/mine/blobs/"+d256, nil)
	if n := u.asked.Load(); n != 0 {
		t.Fatalf("the upstream was asked %d times for local content", n)
	}
	// Stored now, as by a pull.
	run, err := f.store.Runs.Begin(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	d := digest.FromBytes(content)
	for _, err := range []error{
		run.PutBlob(t.Context(), "up/x", ocispec.Descriptor{Digest: d, Size: int64(len(content)), MediaType: "x/y"}, bytes.NewReader(content)),
		run.PutManifest(t.Context(), "up/x", ocispec.Descriptor{Digest: m.Digest, Size: int64(len(m.Body)), MediaType: m.MediaType}, m.Body),
		run.Tag(t.Context(), map[string]map[string]digest.Digest{"up/x": {"latest": m.Digest}}),
		run.Commit(t.Context()),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	u.fail = errors.New("unplugged")
	f.do(http.StatusOK, "GET", "/v2/up/x/manifests/"+m.Digest.String(), nil)
	f.wantBlob("up/x", d, content)
	f.do(http.StatusOK, "HEAD", "/v2/up/x/blobs/"+d.String(), nil)
	if n := u.asked.Load(); n != 0 {
		t.Errorf("the upstream was asked %d times for stored content", n)
	}
	u.fail = nil
	f.do(http.StatusOK, "GET", "/v2/up/x/manifests/latest", nil)
	if n := u.asked.Load(); n != 1 {
		t.Errorf("the upstream was asked %d times for a tag, want once", n)
	}
}

func TestUpstream_fails(t *testing.T) {
	u, m, content := newUpstream()
	f := newFixture(t, u)
	u.fail = errors.New("dial tcp: no route to host")
	for _, path := range []string{"/v2/up/x/manifests/latest", "/v2/up/x/manifests/" + m.Digest.String(), "/v2/up/x/blobs/" + digest.FromBytes(content).String()} {
		got := f.do(http.StatusBadGateway, "GET", path, nil)
		if got.code(t) != codeUnavailable || !strings.Contains(string(got.body), "no route to host") {
			t.Errorf("%s: %s", path, got.body)
		}
	}
	if !strings.Contains(f.log.String(), "no route to host") {
		t.Error("not logged")
	}
	// An upstream's bad content is not the client's fault.
	for _, u.fail = range []error{&store.InvalidError{What: "manifest", Reason: "it is a login page"}, &store.DigestError{Want: d256, Got: m.Digest}, context.DeadlineExceeded} {
		for _, path := range []string{"/v2/up/x/manifests/latest", "/v2/up/x/blobs/" + d256} {
			if got := f.do(http.StatusBadGateway, "GET", path, nil); got.code(t) != codeUnavailable {
				t.Errorf("%s: %s", path, got.body)
			}
		}
	}
	f.log.Reset() // these errors are expected
}

func TestUpstream_pushIsDenied(t *testing.T) {
	u, m, _ := newUpstream()
	f := newFixture(t, u)
	for _, c := range [][2]string{
		{"PUT", "/v2/up/x/manifests/latest"},
		{"PUT", "/v2/up/x/manifests/" + m.Digest.String()},
		{"POST", "/v2/up/x/blobs/uploads/"},
		{"POST", "/v2/up/x/blobs/uploads/?mount=" + d256},
		{"POST", "/v2/up/x/blobs/uploads/?digest=" + d256},
	} {
		got := f.do(http.StatusForbidden, c[0], c[1], "x", "Content-Type", m.MediaType)
		if got.code(t) != codeDenied || !strings.Contains(string(got.body), "up/x is pulled through") {
			t.Errorf("%s %s: %s", c[0], c[1], got.body)
		}
	}
	f.do(http.StatusAccepted, "POST", "/v2/mine/blobs/uploads/", nil)
}
