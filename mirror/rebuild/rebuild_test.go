package rebuild_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/rebuild"
	"github.com/mirror-appliance/appliance/mirror/upstream"
)

// base returns a repository of the sample upstream.
func base(t *testing.T, repository string) rebuild.Source {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	content, err := sample.New(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = content.Handler()
	server.Start()
	t.Cleanup(server.Close)
	registries := upstream.NewRegistries(func(registry string) (upstream.Options, error) {
		return upstream.Options{Registry: registry, PlainHTTP: true}, nil
	})
	t.Cleanup(registries.Close)
	source, err := registries.Repository(server.Listener.Addr().String(), repository)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

func written(text string) func(io.Writer) error {
	return func(w io.Writer) error { _, err := io.WriteString(w, text); return err }
}

// makeImage makes an image in a directory of the test.
func makeImage(t *testing.T, from rebuild.Source, c rebuild.Change) (*rebuild.Image, error) {
	t.Helper()
	return rebuild.Make(t.Context(), from, "v1", filepath.Join(t.TempDir(), "made"), c)
}

var change = rebuild.Change{
	Layer: written("a tar"), Cmd: []string{"/bin/bash", "-c", "true"}, Labels: map[string]string{"new": "1"}, Reason: "graph data", Tag: "latest",
}

// read reads a blob and checks its digest and its size.
func read(t *testing.T, i *rebuild.Image, desc ocispec.Descriptor) []byte {
	t.Helper()
	body, _, err := i.Blob(t.Context(), desc.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err != nil || digest.FromBytes(data) != desc.Digest || int64(len(data)) != desc.Size {
		t.Fatalf("blob %s of %d bytes: %d bytes, %v", desc.Digest, desc.Size, len(data), err)
	}
	if size, err := i.Stat(t.Context(), desc.Digest); size != desc.Size || err != nil {
		t.Errorf("blob %s has %d bytes, %v", desc.Digest, size, err)
	}
	return data
}

// check checks one image, with all of its blobs, and returns how many layers it has.
func check(t *testing.T, i *rebuild.Image, d digest.Digest) int {
	t.Helper()
	desc, body, err := i.Manifest(t.Context(), d.String())
	if err != nil || digest.FromBytes(body) != d {
		t.Fatalf("manifest %s: %v", d, err)
	}
	var m ocispec.Manifest
	if _, err := image.ParseNew(desc.MediaType, body); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &m); err != nil || m.MediaType != desc.MediaType {
		t.Fatalf("manifest of type %q: %v", m.MediaType, err)
	}
	var config struct {
		Config struct {
			Cmd    []string
			Labels map[string]string
		}
		RootFS  ocispec.RootFS
		History []ocispec.History
	}
	if err := json.Unmarshal(read(t, i, m.Config), &config); err != nil {
		t.Fatal(err)
	}
	for n, layer := range m.Layers {
		z, err := gzip.NewReader(bytes.NewReader(read(t, i, layer)))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(z)
		if err != nil || digest.FromBytes(text) != config.RootFS.DiffIDs[n] {
			t.Errorf("layer %d unpacks to something other than the configuration names: %v", n, err)
		}
	}
	if len(config.RootFS.DiffIDs) != len(m.Layers) || len(config.History) != 0 && len(config.History) != len(m.Layers) {
		t.Errorf("%d layers, and the configuration has %d, and %d steps of history", len(m.Layers), len(config.RootFS.DiffIDs), len(config.History))
	}
	if !slices.Equal(config.Config.Cmd, change.Cmd) || config.Config.Labels["new"] != "1" || len(config.Config.Labels) < 2 {
		t.Errorf("configuration %+v", config.Config)
	}
	return len(m.Layers)
}

// pinned are the digests that the change has always had. Go's gzip has a part in them.
var pinned = map[string]string{
	"samples/docker": "5053e6b4ecb3", "samples/oci": "5fb18b9e9ab0", "samples/docker-multi": "efc8ccb84ce9", "samples/oci-multi": "4bdb5458276b",
}

func TestMake(t *testing.T) {
	for repository, mediaType := range map[string]string{
		"samples/docker": image.MediaTypeDockerManifest, "samples/oci": ocispec.MediaTypeImageManifest,
		"samples/docker-multi": image.MediaTypeDockerList, "samples/oci-multi": ocispec.MediaTypeImageIndex,
	} {
		t.Run(repository, func(t *testing.T) {
			from := base(t, repository)
			i, err := makeImage(t, from, change)
			if err != nil {
				t.Fatal(err)
			}
			desc, body, err := i.Manifest(t.Context(), "latest")
			if err != nil || desc.MediaType != mediaType || desc.Digest != i.Root {
				t.Fatalf("root %+v, %v", desc, err)
			}
			images := []ocispec.Descriptor{desc}
			if image.IsIndex(mediaType) {
				var index ocispec.Index
				if err := json.Unmarshal(body, &index); err != nil || len(index.Manifests) != 3 {
					t.Fatalf("index %s, %v", body, err)
				}
				images = index.Manifests
			}
			for _, m := range images {
				if layers := check(t, i, m.Digest); layers != 3 {
					t.Errorf("%d layers", layers)
				}
				if image.IsIndex(mediaType) && (m.Platform == nil || m.Platform.Architecture == "") {
					t.Errorf("member %+v has no platform", m)
				}
			}
			if i.Root.Encoded()[:12] != pinned[repository] {
				t.Errorf("the digest is %s, and was %s…: clusters would see another image", i.Root, pinned[repository])
			}
			again, err := makeImage(t, from, change)
			if err != nil || again.Root != i.Root {
				t.Errorf("the same change gives %s and then %s, %v", i.Root, again.Root, err)
			}
		})
	}
}

// fake has one image whose configuration and manifests are given.
type fake struct {
	manifests map[string]ocispec.Descriptor
	bodies    map[string]string
	config    string
}

func (f *fake) Manifest(_ context.Context, ref string) (ocispec.Descriptor, []byte, error) {
	if _, ok := f.manifests[ref]; !ok {
		return ocispec.Descriptor{}, nil, fs.ErrNotExist
	}
	return f.manifests[ref], []byte(f.bodies[ref]), nil
}

func (f *fake) Blob(context.Context, digest.Digest) (io.ReadCloser, int64, error) {
	return io.NopCloser(strings.NewReader(f.config)), int64(len(f.config)), nil
}

func (f *fake) BlobFrom(ctx context.Context, d digest.Digest, _ int64) (io.ReadCloser, int64, error) {
	return f.Blob(ctx, d)
}

func (f *fake) Stat(context.Context, digest.Digest) (int64, error) { return 0, nil }

func one(mediaType, body, config string) *fake {
	return &fake{map[string]ocispec.Descriptor{"v1": {MediaType: mediaType, Digest: digest.FromString(body)}}, map[string]string{"v1": body}, config}
}

func TestMake_keepsOtherKeys(t *testing.T) {
	const config = `{"architecture":"s390x","os":"linux","x-vendor":12345678901234567890,"config":{"Shell":["sh"],"Labels":{"new":"0","old":"1"}},"history":[{"created_by":"a"},{"created_by":"b","empty_layer":true}],"rootfs":{"type":"layers","diff_ids":["sha256:1"]}}`
	i, err := makeImage(t, one(ocispec.MediaTypeImageManifest, `{"config":{"digest":"sha256:1"},"layers":[{}]}`, config), change)
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := i.Manifest(t.Context(), "latest")
	var m ocispec.Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	got := string(read(t, i, m.Config))
	for _, want := range []string{
		`"x-vendor":12345678901234567890`, `"Shell":["sh"]`, `"Labels":{"new":"1","old":"1"}`, `"architecture":"s390x"`,
		`{"created_by":"b","empty_layer":true},{"created_by":"appliance","comment":"graph data"}]`,
		`"diff_ids":["sha256:1","` + digest.FromString("a tar").String() + `"]`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in %s", want, got)
		}
	}
}

func TestMake_refuses(t *testing.T) {
	const manifest = `{"config":{"digest":"sha256:1"}}`
	for name, from := range map[string]*fake{
		"an absent image":                      {},
		"an artifact's manifest":               one("application/vnd.oci.artifact.manifest.v1+json", `{}`, `{}`),
		"a manifest that is not JSON":          one(ocispec.MediaTypeImageManifest, `x`, `{}`),
		"an index that is not JSON":            one(ocispec.MediaTypeImageIndex, `x`, `{}`),
		"an index without a platform":          one(ocispec.MediaTypeImageIndex, `{"manifests":[{"digest":"sha256:1"}]}`, `{}`),
		"an index with an absent member":       one(ocispec.MediaTypeImageIndex, `{"manifests":[{"digest":"sha256:1","platform":{"os":"linux"}}]}`, `{}`),
		"a configuration that is not JSON":     one(ocispec.MediaTypeImageManifest, manifest, `[]`),
		"a configuration with wrong labels":    one(ocispec.MediaTypeImageManifest, manifest, `{"config":{"Labels":[1]}}`),
		"a configuration with a wrong rootfs":  one(ocispec.MediaTypeImageManifest, manifest, `{"rootfs":1}`),
		"a configuration with a wrong history": one(ocispec.MediaTypeImageManifest, manifest, `{"history":1}`),
		"a configuration without end":          one(ocispec.MediaTypeImageManifest, manifest, strings.Repeat(" ", 5<<20)),
	} {
		if _, err := makeImage(t, from, change); err == nil {
			t.Errorf("%s is rebuilt", name)
		}
	}
}

func TestImage_absent(t *testing.T) {
	i, err := makeImage(t, base(t, "samples/oci"), change)
	if err != nil {
		t.Fatal(err)
	}
	absent := digest.FromString("absent")
	for _, ref := range []string{absent.String(), "sha256-" + i.Root.Encoded() + ".sig"} {
		if _, _, err := i.Manifest(t.Context(), ref); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("manifest %s: %v", ref, err)
		}
	}
	if _, _, err := i.Blob(t.Context(), absent); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("blob: %v", err)
	}
}
