package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// bare returns a catalog in an image without files, to be rebuilt with those of a plain directory.
// The image that comes of it has no opm: OLM v1 reads it, and OLM v0, which starts it, cannot.
func bare() (*Catalog, error) {
	source := memory{}
	config, err := json.Marshal(ocispec.Image{
		Platform: ocispec.Platform{Architecture: "amd64", OS: "linux"},
		Config:   ocispec.ImageConfig{Labels: map[string]string{labelConfigs: "/configs"}},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: source.add(ocispec.MediaTypeImageConfig, config), Layers: []ocispec.Descriptor{},
	})
	root := source.add(ocispec.MediaTypeImageManifest, manifest)
	return &Catalog{Digest: root.Digest, Directory: "/configs", source: source}, err
}

// memory has the manifest and the configuration of the image without files.
type memory map[digest.Digest][]byte

func (m memory) add(mediaType string, data []byte) ocispec.Descriptor {
	d := digest.FromBytes(data)
	m[d] = data
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

func (m memory) find(ref string) ([]byte, error) {
	data, ok := m[digest.Digest(ref)]
	if !ok {
		return nil, fmt.Errorf("the image without files has no %s: %w", ref, fs.ErrNotExist)
	}
	return data, nil
}

func (m memory) Manifest(_ context.Context, ref string) (ocispec.Descriptor, []byte, error) {
	data, err := m.find(ref)
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(ref), Size: int64(len(data))}, data, err
}

func (m memory) Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
	return m.BlobFrom(ctx, d, 0)
}

func (m memory) BlobFrom(_ context.Context, d digest.Digest, offset int64) (io.ReadCloser, int64, error) {
	data, err := m.find(d.String())
	if err != nil {
		return nil, 0, err
	}
	if offset < 0 || offset > int64(len(data)) {
		return nil, 0, fmt.Errorf("blob %s has no byte %d", d, offset)
	}
	return io.NopCloser(bytes.NewReader(data[offset:])), int64(len(data)), nil
}

func (m memory) Stat(_ context.Context, d digest.Digest) (int64, error) {
	data, err := m.find(d.String())
	return int64(len(data)), err
}
