package admin_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/store"
)

func blobOf(content string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromString(content), Size: int64(len(content))}
}

func manifestOf(config, layer string) (ocispec.Descriptor, []byte) {
	c, l := blobOf(config), blobOf(layer)
	body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`, ocispec.MediaTypeImageManifest, c.Digest, c.Size, l.Digest, l.Size)
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(body), Size: int64(len(body))}, []byte(body)
}

func begin(t *testing.T, f *fixture) *client.Run {
	t.Helper()
	run, err := f.client.BeginSync(t.Context(), "test")
	must(t, err)
	return run
}

func hasBlob(ctx context.Context, run *client.Run, repo string, d digest.Digest) (bool, error) {
	existing, _, _, err := run.Existing(ctx, map[string][]digest.Digest{repo: {d}}, nil)
	return len(existing[repo]) == 1, err
}

func hasManifest(ctx context.Context, run *client.Run, repo string, d digest.Digest) (bool, error) {
	_, existing, _, err := run.Existing(ctx, nil, map[string][]digest.Digest{repo: {d}})
	return len(existing[repo]) == 1, err
}

func put(t *testing.T, run *client.Run, repo, content string) {
	t.Helper()
	must(t, run.PutBlob(t.Context(), repo, blobOf(content), strings.NewReader(content)))
}

func TestRun(t *testing.T) {
	f := serve(t)
	ctx, run := t.Context(), begin(t, f)
	manifest, body := manifestOf("config", "layer")
	var missing *client.Refused

	existing, err := hasBlob(ctx, run, "a/b", blobOf("layer").Digest)
	if err != nil || existing {
		t.Fatalf("a blob exists beforehand: %t, %v", existing, err)
	}
	if err := run.PutManifest(ctx, "a/b", manifest, body); !errors.As(err, &missing) || missing.Status != http.StatusUnprocessableEntity {
		t.Errorf("a manifest before its blobs gives %v", err)
	}
	put(t, run, "a/b", "config")
	put(t, run, "a/b", "layer")
	if existing, err := hasBlob(ctx, run, "a/b", blobOf("layer").Digest); err != nil || !existing {
		t.Errorf("a blob that was put: %t, %v", existing, err)
	}
	must(t, run.PutManifest(ctx, "a/b", manifest, body))
	if existing, err := hasManifest(ctx, run, "a/b", manifest.Digest); err != nil || !existing {
		t.Errorf("a manifest that was put: %t, %v", existing, err)
	}
	must(t, run.Tag(ctx, map[string]map[string]digest.Digest{"a/b": {"v1": manifest.Digest}}))

	ask := func(d digest.Digest) map[string][]digest.Digest {
		return map[string][]digest.Digest{"a/b": {blobOf("none").Digest, d}, "other": {d}, "none": {blobOf("none").Digest}}
	}
	blobs, manifests, unconfirmed, err := run.Existing(ctx, ask(blobOf("layer").Digest), ask(manifest.Digest))
	must(t, err)
	for _, c := range []struct{ got, want map[string][]digest.Digest }{
		{blobs, map[string][]digest.Digest{"a/b": {blobOf("layer").Digest}}},
		{manifests, map[string][]digest.Digest{"a/b": {manifest.Digest}}},
		{unconfirmed, map[string][]digest.Digest{"other": {blobOf("layer").Digest}}},
	} {
		if !maps.EqualFunc(c.got, c.want, slices.Equal) {
			t.Errorf("got %v, want %v", c.got, c.want)
		}
	}

	if _, err := f.store.Manifests.ByTag(ctx, "a/b", "v1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("before the commit the tag gives %v", err)
	}
	must(t, run.Commit(ctx))
	m, err := f.store.Manifests.ByTag(ctx, "a/b", "v1")
	if err != nil || m.Digest != manifest.Digest || m.MediaType != manifest.MediaType || string(m.Body) != string(body) {
		t.Errorf("after the commit the tag gives %+v, %v", m, err)
	}
}

// What is more than a request takes is asked for, tagged and recorded in several.
func TestRun_Room(t *testing.T) {
	f := serve(t)
	run := begin(t, f)
	if free, _, where, err := run.Room(t.Context()); err == nil {
		t.Errorf("%d bytes at %q, though it does not know", free, where)
	}
	f.status.Space = []api.Space{{Path: "/storage", Free: 100, Kept: 30}, {Path: "/database", Free: 1}}
	if free, kept, where, err := run.Room(t.Context()); free != 70 || kept != 30 || where != "/storage" || err != nil {
		t.Errorf("%d bytes at %q, %v", free, where, err)
	}
}

func TestRun_manyAtOnce(t *testing.T) {
	f := serve(t)
	ctx, run := t.Context(), begin(t, f)
	manifest, body := manifestOf("config", "layer")
	repo := strings.Repeat("x", 250)
	put(t, run, repo, "config")
	put(t, run, repo, "layer")
	must(t, run.PutManifest(ctx, repo, manifest, body))

	const digests, names = 32000, 9500 // sha512, or tags of 128 characters, of more than 4 MiB
	var ask []digest.Digest
	for i := range digests {
		ask = append(ask, digest.SHA512.FromString(fmt.Sprint(i)))
	}
	blobs, manifests, unconfirmed, err := run.Existing(ctx,
		map[string][]digest.Digest{repo: append(slices.Clone(ask), blobOf("layer").Digest), "other": {blobOf("config").Digest}},
		map[string][]digest.Digest{repo: append(ask, manifest.Digest)})
	must(t, err)
	wantBlobs, wantUnconfirmed := map[string][]digest.Digest{repo: {blobOf("layer").Digest}}, map[string][]digest.Digest{"other": {blobOf("config").Digest}}
	wantManifests := map[string][]digest.Digest{repo: {manifest.Digest}}
	if !maps.EqualFunc(blobs, wantBlobs, slices.Equal) || !maps.EqualFunc(manifests, wantManifests, slices.Equal) || !maps.EqualFunc(unconfirmed, wantUnconfirmed, slices.Equal) {
		t.Errorf("existing are %v and %v, unconfirmed %v", blobs, manifests, unconfirmed)
	}
	var confirmed []ocispec.Descriptor
	for _, d := range ask {
		confirmed = append(confirmed, ocispec.Descriptor{Digest: d, Size: math.MaxInt64})
	}
	staged, err := run.Confirm(ctx, map[string][]ocispec.Descriptor{repo: confirmed, "other": {blobOf("config")}})
	if err != nil || !maps.EqualFunc(staged, wantUnconfirmed, slices.Equal) {
		t.Errorf("staged are %v, %v", staged, err)
	}
	tags, sources := map[string]digest.Digest{}, []string{}
	for i := range names {
		tags[fmt.Sprintf("%0128d", i)] = manifest.Digest
		sources = append(sources, fmt.Sprint("quay.io/", i))
	}
	must(t, run.Tag(ctx, map[string]map[string]digest.Digest{repo: tags}))
	must(t, run.Source(ctx, map[string][]string{repo: sources}))
	must(t, run.Commit(ctx))
	if got, _, err := f.store.Tags.List(ctx, repo, "", -1); err != nil || len(got) != names {
		t.Errorf("%d tags, %v", len(got), err)
	}
	if found, err := f.store.Integrity().BlobSources(ctx, blobOf("layer").Digest); err != nil || len(found) != names {
		t.Errorf("%d sources, %v", len(found), err)
	}
}

// The control API is open to other programs than our own: what the caller may not have is not
// given by its naming it.
func TestRun_anotherRepositorysBlob(t *testing.T) {
	f := serve(t)
	ctx, run := t.Context(), begin(t, f)
	put(t, run, "team/private", "config")
	put(t, run, "team/private", "layer")
	manifest, body := manifestOf("config", "layer")
	must(t, run.PutManifest(ctx, "team/private", manifest, body))
	must(t, run.Commit(ctx))

	evil := begin(t, f)
	config, layer := blobOf("config"), blobOf("layer")
	ask := map[string][]digest.Digest{"mirror/evil": {config.Digest, layer.Digest}}
	refuses := func() {
		t.Helper()
		blobs, manifests, unconfirmed, err := evil.Existing(ctx, ask, map[string][]digest.Digest{"mirror/evil": {manifest.Digest}})
		if len(blobs)+len(manifests) != 0 || !maps.EqualFunc(unconfirmed, ask, slices.Equal) || err != nil {
			t.Errorf("existing are %v and %v, unconfirmed %v, %v", blobs, manifests, unconfirmed, err)
		}
		refusal(t, evil.PutManifest(ctx, "mirror/evil", manifest, body), http.StatusUnprocessableEntity, "")
	}
	refuses()
	larger := layer
	larger.Size++
	staged, err := evil.Confirm(ctx, map[string][]ocispec.Descriptor{"mirror/evil": {larger, blobOf("none")}})
	if len(staged) != 0 || err != nil {
		t.Errorf("staged are %v, %v", staged, err)
	}
	refuses()
	staged, err = evil.Confirm(ctx, map[string][]ocispec.Descriptor{"mirror/evil": {config, layer}})
	if !maps.EqualFunc(staged, ask, slices.Equal) || err != nil {
		t.Errorf("staged are %v, %v", staged, err)
	}
	must(t, evil.PutManifest(ctx, "mirror/evil", manifest, body))
	must(t, evil.Commit(ctx))
	if size, err := f.store.Blobs.Stat(ctx, "mirror/evil", layer.Digest); size != layer.Size || err != nil {
		t.Errorf("what was confirmed has %d bytes, %v", size, err)
	}
}

func TestRun_Abort(t *testing.T) {
	f := serve(t)
	run := begin(t, f)
	put(t, run, "a", "x")
	must(t, run.Abort(t.Context()))
	err := run.Commit(t.Context())
	refusal(t, err, http.StatusNotFound, "run")
	if !errors.Is(err, client.ErrNotFound) {
		t.Error("the client's error is not ErrNotFound")
	}
}

func TestRun_PutBlob(t *testing.T) {
	f := serve(t)
	ctx, run := t.Context(), begin(t, f)

	t.Run("of no bytes", func(t *testing.T) {
		put(t, run, "a", "")
		if existing, err := hasBlob(ctx, run, "a", blobOf("").Digest); err != nil || !existing {
			t.Errorf("existing: %t, %v", existing, err)
		}
	})
	t.Run("with another content is refused", func(t *testing.T) {
		desc := blobOf("what it should be")
		err := run.PutBlob(ctx, "a", desc, strings.NewReader("what it shouldn't"))
		refusal(t, err, http.StatusBadRequest, "")
		nothingLeft(t, f, run, desc)
	})
	t.Run("that is too short leaves nothing", func(t *testing.T) {
		desc := blobOf("abcdef")
		if err := run.PutBlob(ctx, "a", desc, strings.NewReader("abc")); err == nil {
			t.Error("it was taken")
		}
		nothingLeft(t, f, run, desc)
	})
	t.Run("whose reader fails gives the reader's error", func(t *testing.T) {
		broken := errors.New("upstream broke")
		desc := blobOf(strings.Repeat("x", 1<<20-1)) // of a larger one the half is kept
		err := run.PutBlob(ctx, "a", desc, io.MultiReader(strings.NewReader(strings.Repeat("x", 1<<19)), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "read blob "+desc.Digest.String()) {
			t.Errorf("error is %v", err)
		}
		nothingLeft(t, f, run, desc)
	})
	t.Run("into an unknown run is refused before it is read", func(t *testing.T) {
		gone := begin(t, f)
		must(t, gone.Abort(ctx))
		err := gone.PutBlob(ctx, "a", ocispec.Descriptor{Digest: digest.FromString("x"), Size: 1 << 40}, endless{})
		refusal(t, err, http.StatusNotFound, "run")
	})
	t.Run("without a length is refused", func(t *testing.T) {
		if status, answer := sendChunked(t, f, run.ID()); status != http.StatusLengthRequired || !strings.Contains(answer, "Content-Length") {
			t.Errorf("answered %d %s", status, answer)
		}
	})
}

// nothingLeft asserts that neither the blob nor a part of it is there.
func nothingLeft(t *testing.T, f *fixture, run *client.Run, desc ocispec.Descriptor) {
	t.Helper()
	if existing, err := hasBlob(t.Context(), run, "a", desc.Digest); err != nil || existing {
		t.Errorf("existing: %t, %v", existing, err)
	}
	uploads := filepath.Join(filepath.Dir(filepath.Dir(f.socket)), "blobs", "uploads")
	f.handling.Lock() // the daemon may still be noticing that the connection broke
	defer f.handling.Unlock()
	entries, err := os.ReadDir(uploads)
	if err != nil || len(entries) > 0 {
		t.Errorf("uploads has %v, %v", entries, err)
	}
}

// endless has more bytes than a test can send.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func sendChunked(t *testing.T, f *fixture, id string) (int, string) {
	t.Helper()
	c, err := net.Dial("unix", f.socket)
	must(t, err)
	defer c.Close()
	fmt.Fprintf(c, "PUT /api/v1/sync/%s/blobs/%s?repository=a HTTP/1.1\r\nHost: local\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", id, digest.FromString("x"))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(answer)
}

func TestSync_rollback(t *testing.T) {
	f := serve(t)
	desc, body := manifestOf("config", "layer")
	run := begin(t, f)
	for _, content := range []string{"config", "layer"} {
		must(t, run.PutBlob(t.Context(), "a/b", blobOf(content), strings.NewReader(content)))
	}
	must(t, run.PutManifest(t.Context(), "a/b", desc, body))
	must(t, run.Tag(t.Context(), map[string]map[string]digest.Digest{"a/b": {"v1": desc.Digest}}))
	must(t, run.Commit(t.Context()))
	past, err := f.client.PastSyncs(t.Context(), api.PastRequest{})
	must(t, err)
	if len(past) != 1 || past[0].Name != "test" || past[0].Tags != 1 {
		t.Fatalf("the runs are %+v", past)
	}
	for _, dry := range []bool{true, false} {
		done, err := f.client.Rollback(t.Context(), past[0].ID, api.RollbackRequest{DryRun: dry})
		must(t, err)
		if len(done.Moved) != 1 || done.Moved[0] != (api.TagChange{Repository: "a/b", Tag: "v1", Was: desc.Digest.String()}) || (done.ID == "") != dry {
			t.Errorf("rolled back %+v", done)
		}
		tags, _, err := f.store.Tags.List(t.Context(), "a/b", "", -1)
		must(t, err)
		if (len(tags) == 1) != dry {
			t.Errorf("the tags are %q", tags)
		}
	}
	var refused *client.Refused
	if _, err := f.client.Rollback(t.Context(), "none", api.RollbackRequest{}); !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
		t.Errorf("an unknown run: %v", err)
	}
}
