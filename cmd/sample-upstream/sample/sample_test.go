package sample_test

import (
	"encoding/json"
	"io"
	"maps"
	"regexp"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
)

func TestNew(t *testing.T) {
	t.Run("the same host gives the same digests", func(t *testing.T) {
		a, b, other := newContent(t, "127.0.0.1:5055"), newContent(t, "127.0.0.1:5055"), newContent(t, "127.0.0.1:5056")
		for _, repo := range a.Repositories() {
			for _, tag := range a.Tags(repo) {
				ma, _ := a.Manifest(repo, tag)
				mb, _ := b.Manifest(repo, tag)
				if ma.Digest != mb.Digest || ma.Digest == "" {
					t.Errorf("%s:%s is %s, then %s", repo, tag, ma.Digest, mb.Digest)
				}
			}
		}
		here, _ := a.Release("4.18.2", "amd64")
		there, _ := other.Release("4.18.2", "amd64")
		if here.Digest == there.Digest {
			t.Error("a payload does not depend on the host that it names")
		}
	})
	t.Run("an address without port is refused", func(t *testing.T) {
		if _, err := sample.New("localhost"); err == nil {
			t.Error("New succeeded")
		}
	})
}

func newContent(t *testing.T, host string) *sample.Content {
	t.Helper()
	c, err := sample.New(host)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestContent_everyImageCanBePulled(t *testing.T) {
	c, pulled := upstream(t), 0
	for _, repo := range c.Repositories() {
		for _, tag := range c.Tags(repo) {
			ref := c.Host() + "/" + repo + ":" + tag
			for _, img := range images(t, ref) {
				pullImage(t, ref, img)
				pulled++
			}
		}
	}
	if pulled < 50 {
		t.Errorf("only %d images behind tags", pulled)
	}
}

// pullImage validates an image; of an artifact it reads every blob, which
// go-containerregistry verifies.
func pullImage(t *testing.T, ref string, img v1.Image) {
	t.Helper()
	m, err := img.Manifest()
	if err != nil {
		t.Fatalf("%s: %v", ref, err)
	}
	if isImage(m) {
		if err := validate.Image(img); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
		return
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatalf("%s: %v", ref, err)
	}
	for _, l := range layers {
		r, err := l.Compressed()
		if err != nil {
			t.Fatalf("%s: %v", ref, err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
		r.Close()
	}
}

func isImage(m *v1.Manifest) bool {
	return slices.ContainsFunc(m.Layers, func(l v1.Descriptor) bool { return l.MediaType.IsLayer() })
}

func TestContent_plainImagesAreOfEachKind(t *testing.T) {
	c := upstream(t)
	for ref, want := range map[string]types.MediaType{
		"samples/docker:v1":       types.DockerManifestSchema2,
		"samples/docker-multi:v1": types.DockerManifestList,
		"samples/oci:v1":          types.OCIManifestSchema1,
		"samples/oci-multi:v1":    types.OCIImageIndex,
	} {
		if got := describe(t, c.Host()+"/"+ref).MediaType; got != want {
			t.Errorf("%s is %s, want %s", ref, got, want)
		}
	}
	if n := len(images(t, c.Host()+"/samples/oci-multi:v1")); n != 3 {
		t.Errorf("samples/oci-multi:v1 has %d architectures, want 3", n)
	}
	m, _ := c.Manifest("samples/artifact", "v1")
	var artifact ocispec.Manifest
	if err := json.Unmarshal(m.Body, &artifact); err != nil {
		t.Fatal(err)
	}
	if artifact.ArtifactType == "" || artifact.Config.MediaType != ocispec.MediaTypeEmptyJSON {
		t.Errorf("samples/artifact:v1 is no artifact: %s", m.Body)
	}
}

func TestContent_releases(t *testing.T) {
	c := upstream(t)
	for _, r := range c.Releases() {
		t.Run(r.Tag, func(t *testing.T) {
			shards := images(t, r.Payload)
			if want := map[bool]int{true: 2, false: 1}[r.Arch == "multi"]; len(shards) != want {
				t.Fatalf("the payload has %d images, want %d", len(shards), want)
			}
			if tagged := describe(t, c.Host()+"/"+sample.ReleaseRepository+":"+r.Tag).Digest.String(); tagged != r.Digest.String() {
				t.Errorf("the tag names %s, the release is %s", tagged, r.Digest)
			}
			for _, img := range shards {
				checkPayload(t, r, files(t, img))
			}
			for name, ref := range r.Components {
				for _, img := range images(t, ref) {
					if err := validate.Image(img, validate.Fast); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
		})
	}
}

func checkPayload(t *testing.T, r sample.Release, fs map[string][]byte) {
	t.Helper()
	var stream struct {
		Kind     string
		Metadata struct{ Name string }
		Spec     struct {
			Tags []struct {
				Name string
				From struct{ Kind, Name string }
			}
		}
	}
	if err := json.Unmarshal(fs["release-manifests/image-references"], &stream); err != nil {
		t.Fatal(err)
	}
	if stream.Kind != "ImageStream" || stream.Metadata.Name != r.Version {
		t.Errorf("image-references is %s %q, want the ImageStream of %s", stream.Kind, stream.Metadata.Name, r.Version)
	}
	listed := map[string]string{}
	for _, tag := range stream.Spec.Tags {
		listed[tag.Name] = tag.From.Name
	}
	if !maps.Equal(listed, r.Components) || len(listed) < 6 {
		t.Errorf("image-references lists %v, the release consists of %v", listed, r.Components)
	}
	var meta struct {
		Kind, Version string
		Metadata      map[string]string
	}
	if err := json.Unmarshal(fs["release-manifests/release-metadata"], &meta); err != nil {
		t.Fatal(err)
	}
	if meta.Kind != "cincinnati-metadata-v0" || meta.Version != r.Version || meta.Metadata["url"] == "" {
		t.Errorf("release-metadata is %+v", meta)
	}
	disk := regexp.MustCompile(`"digest-ref":"([^"]+)"`).FindSubmatch(fs["release-manifests/0000_50_installer_coreos-bootimages.yaml"])
	if disk == nil {
		t.Fatal("no kubevirt disk is named")
	}
	describe(t, string(disk[1]))
	if multi := meta.Metadata["release.openshift.io/architecture"] == "multi"; multi != (r.Arch == "multi") {
		t.Errorf("release-metadata of %s says multi: %t", r.Arch, multi)
	}
}

func TestContent_releasesShareComponents(t *testing.T) {
	c := newContent(t, "127.0.0.1:5055")
	one, _ := c.Release("4.18.1", "amd64")
	two, _ := c.Release("4.18.2", "amd64")
	if one.Components["etcd"] != two.Components["etcd"] {
		t.Error("etcd is not shared between releases")
	}
	if one.Components["cli"] == two.Components["cli"] {
		t.Error("cli is the same in both releases")
	}
	if one.Components["cli"] != one.Components["cli-artifacts"] {
		t.Error("no digest has two names in a release")
	}
}
