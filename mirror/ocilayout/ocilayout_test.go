package ocilayout_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/ocilayout"
	"github.com/mirror-appliance/appliance/mirror/sourcetest"
)

// write writes a layout with blobs and an index of tagged manifests.
func write(t *testing.T, index ocispec.Index, blobs ...map[digest.Digest][]byte) string {
	t.Helper()
	dir := t.TempDir()
	body, err := json.Marshal(index)
	err = errors.Join(err, os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755), os.WriteFile(filepath.Join(dir, "index.json"), body, 0o600))
	for _, some := range blobs {
		for d, data := range some {
			err = errors.Join(err, os.WriteFile(filepath.Join(dir, "blobs", "sha256", d.Encoded()), data, 0o600))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func named(d digest.Digest, body []byte, tag string) ocispec.Descriptor {
	m := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: int64(len(body))}
	if tag != "" {
		m.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
	}
	return m
}

func open(t *testing.T, dir string) *ocilayout.Layout {
	t.Helper()
	l, err := ocilayout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLayout_isASource(t *testing.T) {
	for name, tagged := range map[string]bool{"referrers in index.json": false, "referrers under a tag": true} {
		t.Run(name, func(t *testing.T) {
			sourcetest.Run(t, func(t *testing.T, c sourcetest.Content) mirror.Source {
				var index ocispec.Index
				for tag, d := range c.Tags {
					if m := named(d, c.Manifests[d], tag); tag == "v1" || tagged {
						index.Manifests = append(index.Manifests, m)
					}
				}
				if !tagged {
					for d, body := range c.Manifests {
						index.Manifests = append(index.Manifests, named(d, body, ""))
					}
				}
				return open(t, write(t, index, c.Manifests, c.Blobs))
			})
		})
	}
}

func TestLayout_whichImage(t *testing.T) {
	a, b := []byte(`{"schemaVersion":2,"config":{},"layers":[],"a":1}`), []byte(`{"schemaVersion":2,"config":{},"layers":[],"b":1}`)
	blobs := map[digest.Digest][]byte{digest.FromBytes(a): a, digest.FromBytes(b): b}
	one := open(t, write(t, ocispec.Index{Manifests: []ocispec.Descriptor{named(digest.FromBytes(a), a, "v1")}}, blobs))
	two := open(t, write(t, ocispec.Index{Manifests: []ocispec.Descriptor{named(digest.FromBytes(a), a, "v1"), named(digest.FromBytes(b), b, "v2")}}, blobs))
	for name, tc := range map[string]struct {
		l    *ocilayout.Layout
		tag  string
		want digest.Digest
	}{
		"the only one": {one, "", digest.FromBytes(a)}, "the only one as latest": {one, "latest", digest.FromBytes(a)},
		"by its tag": {two, "v2", digest.FromBytes(b)}, "all in one index": {two, "", two.Root().Digest}, "another tag": {two, "v3", ""},
	} {
		desc, body, err := tc.l.Manifest(t.Context(), tc.tag)
		if tc.want == "" {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v, %v", name, desc, err)
			}
			continue
		}
		if err != nil || desc.Digest != tc.want || digest.FromBytes(body) != tc.want {
			t.Errorf("%s: %v, %v; want %s", name, desc, err, tc.want)
		}
	}
	_, body, err := two.Manifest(t.Context(), two.Root().Digest.String())
	var index ocispec.Index
	if err != nil || json.Unmarshal(body, &index) != nil || len(index.Manifests) != 2 || index.Manifests[0].Annotations != nil {
		t.Errorf("the index of all: %s, %v", body, err)
	}
	if _, err := ocilayout.Open(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is no layout: %v", err)
	}
}
