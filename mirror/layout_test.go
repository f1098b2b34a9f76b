package mirror_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/ocilayout"
)

// writeLayout writes an OCI layout with an image for each tag, and returns their digests.
func writeLayout(t *testing.T, dir string, tags ...string) map[string]digest.Digest {
	t.Helper()
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	add := func(mediaType string, v any) ocispec.Descriptor {
		data, err := json.Marshal(v)
		d := digest.FromBytes(data)
		if err := errors.Join(err, os.WriteFile(filepath.Join(blobs, d.Encoded()), data, 0o600)); err != nil {
			t.Fatal(err)
		}
		return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
	}
	index, all := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}}, map[string]digest.Digest{}
	for _, tag := range tags {
		desc := add(ocispec.MediaTypeImageManifest, ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: add(ocispec.MediaTypeImageConfig, map[string]string{"os": "linux", "of": tag}),
			Layers: []ocispec.Descriptor{add(ocispec.MediaTypeImageLayer, "layer of "+tag)},
		})
		all[tag] = desc.Digest
		desc.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
		index.Manifests = append(index.Manifests, desc)
	}
	data, err := json.Marshal(index)
	if err := errors.Join(err, os.WriteFile(filepath.Join(dir, "index.json"), data, 0o600)); err != nil {
		t.Fatal(err)
	}
	return all
}

// ofLayouts reads OCI layouts, as the command does.
func ofLayouts(o *mirror.Options) {
	registries := o.Open
	o.Open = func(ref imageset.Reference) (mirror.Source, error) {
		if ref.IsLayout() {
			return ocilayout.Open(ref.Path)
		}
		return registries(ref)
	}
}

func TestRun_imagesOfLayouts(t *testing.T) {
	dir := t.TempDir()
	one := writeLayout(t, filepath.Join(dir, "one"), "v1")
	two := writeLayout(t, filepath.Join(dir, "two"), "v1", "v2")
	config := strings.ReplaceAll("  additionalImages:\n  - {name: 'oci://DIR/one', targetRepo: team/one}\n  - {name: 'oci://DIR/two:v2', targetRepo: team/two}\n"+
		"  - {name: 'oci://DIR/two', targetRepo: team/two, targetTag: all}\n", "DIR", dir)
	s := newSetup(t, config, ofLayouts)
	report, err := s.mirror(t)
	if err != nil || len(report.Mirrored) != 3 {
		t.Fatalf("%+v, %v", report, err)
	}
	s.holds(t, "team/one", "latest", one["v1"])
	s.holds(t, "team/two", "v2", two["v2"])
	if !strings.Contains(strings.Join(s.tags(t, "team/two"), " "), "all") {
		t.Errorf("tags %v", s.tags(t, "team/two"))
	}
	for _, file := range s.files(t) {
		if strings.Contains(file, "cluster-resources/") && strings.Contains(s.read(t, filepath.SplitList(file)...), "team/one") {
			t.Errorf("%s redirects a cluster's requests for a directory", file)
		}
	}
}
