package archive_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror/archive"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// An image is found by the reference that it was pulled by, whatever the name that it has in the
// archive.
func TestRepository_findsAReference(t *testing.T) {
	own := newWorkbench(t)
	i := newImage([]byte("layer"))
	p := planOf(i)
	p.Images[0].Reference = imageset.Reference{Domain: "quay.io", Path: "team/app", Tag: "v1"}
	p.Images[0].Repository, p.Images[0].Tag = "renamed", "v7"
	own.begin()
	must(t, own.writer.Planned(t.Context(), p))
	own.put("renamed", "v7", i)
	own.commit()

	foreign := t.TempDir()
	writeTar(t, filepath.Join(foreign, "mirror_000001.tar"), blobFile(i.manifest.Digest, i.body),
		tagFile("renamed", "v7", i.manifest.Digest), tagFile("team/app", "v1", i.manifest.Digest), tagFile("openshift/release-images", "4.18.2-x86_64", i.manifest.Digest))

	for _, tc := range []struct {
		what, dir, name, path, ref string
		found                      bool
	}{
		{"ours, by the reference it was pulled by", own.dir, "quay.io/team/app", "team/app", "v1", true},
		{"ours, by its name in the archive", own.dir, "x/renamed", "renamed", "v7", true},
		{"ours, another registry", own.dir, "x/team/app", "team/app", "v1", false},
		{"ours, by digest", own.dir, "x/y", "y", i.manifest.Digest.String(), true},
		{"oc-mirror's, by path", foreign, "quay.io/team/app", "team/app", "v1", true},
		{"oc-mirror's, another tag", foreign, "quay.io/team/app", "team/app", "v2", false},
		{"oc-mirror's, by an alias", foreign, "quay.io/team/other", "team/other", "v1", true},
		{"oc-mirror's, a release", foreign, "quay.io/openshift-release-dev/ocp-release", "openshift-release-dev/ocp-release", "4.18.2-x86_64", true},
		{"oc-mirror's, another image with a release's tag", foreign, "quay.io/team/app", "team/app", "4.18.2-x86_64", false},
		{"oc-mirror's, by digest", foreign, "x/y", "y", i.manifest.Digest.String(), true},
	} {
		t.Run(tc.what, func(t *testing.T) {
			a, err := archive.Open(t.Context(), tc.dir)
			must(t, err)
			defer a.Close()
			a.Alias("quay.io/team/other:v1", "renamed", "v7")
			desc, body, err := a.Repository(tc.name, tc.path).Manifest(t.Context(), tc.ref)
			if tc.found && (err != nil || desc.Digest != i.manifest.Digest || string(body) != string(i.body)) {
				t.Errorf("got %+v, %v", desc, err)
			}
			if !tc.found && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestRepository_Manifest_mediaType(t *testing.T) {
	own := newWorkbench(t)
	body := []byte(`{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"` + digest.FromString("{}").String() + `","size":2},"layers":[]}`)
	index := []byte(`{"schemaVersion":2,"manifests":[]}`)
	desc := describe("application/vnd.docker.distribution.manifest.v2+json", body)
	own.begin()
	must(t, own.writer.PutManifest(t.Context(), "a", desc, body))
	must(t, own.writer.Tag(t.Context(), map[string]map[string]digest.Digest{"a": {"v1": desc.Digest}}))
	own.commit()
	foreign := t.TempDir()
	writeTar(t, filepath.Join(foreign, "mirror_000001.tar"), blobFile(desc.Digest, body), blobFile(digest.FromBytes(index), index))
	for _, tc := range []struct {
		dir, want string
		d         digest.Digest
	}{
		{own.dir, desc.MediaType, desc.Digest}, // as it was declared
		{foreign, ocispec.MediaTypeImageManifest, desc.Digest},
		{foreign, ocispec.MediaTypeImageIndex, digest.FromBytes(index)},
	} {
		got, _, err := own.open(tc.dir).Repository("a", "a").Manifest(t.Context(), tc.d.String())
		if err != nil || got.MediaType != tc.want {
			t.Errorf("got %s, %v, want %s", got.MediaType, err, tc.want)
		}
	}
}

// What failed in the run is in the list, by name.
func TestDescribe(t *testing.T) {
	b := newWorkbench(t)
	i, j := newImage([]byte("one")), newImage([]byte("two"))
	p := planOf(i)
	p.Images[0].Reference = imageset.Reference{Domain: "quay.io", Path: "team/app", Tag: "v1"}
	failed := &plan.Image{Origin: "quay.io/team/failed:v1", Repository: "team/failed", Tag: "v1", Digest: j.manifest.Digest}
	p.Images = append(p.Images, failed)
	p.Failures = []plan.Failure{plan.Failed(&plan.Image{Origin: "quay.io/team/gone:v1"}, errors.New("it is gone"))}
	b.begin(smallChunks)
	must(t, b.writer.Planned(t.Context(), p))
	b.put("team/app", "v1", i)
	must(t, b.writer.PutBlob(t.Context(), "x", describe("a/b", noise(1, 63<<10)), strings.NewReader(string(noise(1, 63<<10)))))
	b.commit()
	d, err := archive.Describe(t.Context(), b.dir)
	must(t, err)
	got := d.Archives[0]
	if len(d.Archives) != 1 || len(d.Problems) > 0 || got.Sequence != 1 || got.Chunks != 2 || len(got.Files) != 2 || got.Version != "v1.2.3" || got.BuildsOn != nil {
		t.Errorf("got %+v, %v", got, d.Problems)
	}
	if len(got.Images) != 1 || got.Images[0].Reference != "quay.io/team/app:v1" || got.Images[0].Digest != i.manifest.Digest {
		t.Errorf("images %+v", got.Images)
	}
	if text := fmt.Sprint(got.Failures); len(got.Failures) != 2 || !strings.Contains(text, "team/failed") || !strings.Contains(text, "it is gone") {
		t.Errorf("failures %s", text)
	}
	t.Run("with its content", func(t *testing.T) {
		var read, all int64
		verify := func() *archive.Description {
			d, err := archive.Verify(t.Context(), func(n, of int64) { read, all = n, of }, b.dir)
			must(t, err)
			return d
		}
		if d := verify(); len(d.Problems) > 0 || read != all || all < 63<<10 || len(d.Archives) != 1 {
			t.Errorf("read %d of %d bytes, %+v", read, all, d)
		}
		path := b.chunks()[0]
		data, err := os.ReadFile(path)
		must(t, err)
		at := bytes.Index(data, i.body) // of a blob that is not a manifest's tag or header
		data[at] ^= 1
		must(t, os.WriteFile(path, data, 0o600))
		if d := verify(); len(d.Problems) != 1 || !strings.Contains(d.Problems[0], i.manifest.Digest.String()) || !strings.Contains(d.Problems[0], path) {
			t.Errorf("with a bit flipped: %q", d.Problems)
		}
		data[at] ^= 1
		must(t, os.WriteFile(path, data, 0o600))
	})
	t.Run("one file of several", func(t *testing.T) {
		d, err := archive.Describe(t.Context(), b.chunks()[0])
		must(t, err)
		if len(d.Problems) != 1 || !strings.Contains(d.Problems[0], "mirror_000002.tar") || d.Archives[0].Sequence != 1 {
			t.Errorf("got %+v", d)
		}
	})
	t.Run("oc-mirror's", func(t *testing.T) {
		dir := t.TempDir()
		writeTar(t, filepath.Join(dir, "mirror_000001.tar"), blobFile(i.manifest.Digest, i.body), tagFile("team/app", "v1", i.manifest.Digest))
		d, err := archive.Describe(t.Context(), dir)
		must(t, err)
		if len(d.Archives) != 1 || len(d.Archives[0].Images) != 1 || d.Archives[0].Images[0].Tag != "v1" || d.Archives[0].Version != "" {
			t.Errorf("got %+v", d)
		}
	})
}

// Signatures are found by the tags that cosign gives them, and by their subject.
func TestRepository_findsAttachments(t *testing.T) {
	b := newWorkbench(t)
	i, sig := newImage([]byte("layer")), newImage([]byte("signature"))
	referrer := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"artifactType":"a/b","config":{"mediaType":"a/b","digest":%q,"size":2},"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
		ocispec.MediaTypeImageManifest, i.config.Digest, ocispec.MediaTypeImageManifest, i.manifest.Digest, i.manifest.Size)
	b.begin()
	b.put("openshift/release", "4.18.2-x86_64-etcd", i)
	b.put("openshift/release", "sha256-"+i.manifest.Digest.Encoded()+".sig", sig)
	must(t, b.writer.PutManifest(t.Context(), "openshift/release", describe(ocispec.MediaTypeImageManifest, referrer), referrer))
	stray := newImage([]byte("of an image that failed"))
	must(t, b.writer.PutManifest(t.Context(), "openshift/release", stray.manifest, stray.body))
	b.commit()
	if len(names(b.all(), stray.manifest.Digest.Encoded())) > 0 {
		t.Error("a manifest that nothing needs is carried")
	}
	r := b.open().Repository("quay.io/openshift-release-dev/ocp-v4.0-art-dev", "openshift-release-dev/ocp-v4.0-art-dev")
	desc, _, err := r.Manifest(t.Context(), "sha256-"+i.manifest.Digest.Encoded()+".sig")
	if err != nil || desc.Digest != sig.manifest.Digest {
		t.Errorf("by tag: %s, %v", desc.Digest, err)
	}
	all, err := r.Referrers(t.Context(), i.manifest.Digest)
	if err != nil || len(all) != 1 || all[0].Digest != digest.FromBytes(referrer) {
		t.Errorf("by subject: %v, %v", all, err)
	}
	t.Run("a tag of the image's own digest is not a list of referrers", func(t *testing.T) {
		index := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
			ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, i.manifest.Digest, i.manifest.Size)
		dir := t.TempDir()
		writeTar(t, filepath.Join(dir, "mirror_000001.tar"), blobFile(digest.FromBytes(index), index), tagFile("a", "sha256-"+digest.FromBytes(index).Encoded(), digest.FromBytes(index)))
		all, err := b.open(dir).Repository("a", "a").Referrers(t.Context(), digest.FromBytes(index))
		if err != nil || len(all) > 0 {
			t.Errorf("%v, %v", all, err)
		}
	})
}
