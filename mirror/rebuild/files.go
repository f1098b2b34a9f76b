package rebuild

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/durable"
)

// files writes made content, as an OCI layout in a directory.
type files struct{ dir string }

func newFiles(dir string) (*files, error) {
	err := os.RemoveAll(dir)
	return &files{dir}, errors.Join(err, os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755))
}

// layer is a layer that was written.
type layer struct {
	digest digest.Digest
	size   int64
	diffID digest.Digest
}

// descriptor returns the descriptor of a layer in a manifest of a type.
func (l layer) descriptor(manifest string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: layerType(manifest), Digest: l.digest, Size: l.size}
}

// layer compresses what write writes. The same bytes give the same layer: the header has neither
// time nor name.
func (f *files) layer(write func(io.Writer) error) (l layer, err error) {
	out, err := os.CreateTemp(f.dir, "layer")
	if err != nil {
		return l, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(out.Name())
		}
	}()
	content, compressed := digest.Canonical.Digester(), digest.Canonical.Digester()
	z := gzip.NewWriter(io.MultiWriter(out, compressed.Hash()))
	err = write(io.MultiWriter(z, content.Hash()))
	if err = durable.Finish(out, errors.Join(err, z.Close())); err != nil {
		return l, err
	}
	info, err := os.Stat(out.Name())
	if err != nil {
		return l, err
	}
	l = layer{compressed.Digest(), info.Size(), content.Digest()}
	return l, f.place(out.Name(), l.digest)
}

// place gives a file its name.
func (f *files) place(from string, d digest.Digest) error {
	if err := os.Chmod(from, 0o644); err != nil {
		return err
	}
	return os.Rename(from, filepath.Join(f.dir, "blobs", d.Algorithm().String(), d.Encoded()))
}

// put writes a small blob.
func (f *files) put(mediaType string, data []byte) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	out, err := os.CreateTemp(f.dir, "blob")
	if err != nil {
		return desc, err
	}
	_, err = out.Write(data)
	if err := durable.Finish(out, err); err != nil {
		return desc, err
	}
	return desc, f.place(out.Name(), desc.Digest)
}

// manifest writes a manifest and returns its descriptor.
func (f *files) manifest(mediaType string, manifest any) (ocispec.Descriptor, error) {
	body, err := json.Marshal(manifest)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return f.put(mediaType, body)
}

// madeAnnotation of the index lists the blobs that were made, as files of blobs/sha256: the others of the
// image are the base's.
const madeAnnotation = "appliance.made"

// finish names the root and puts the files in the place of those of dir.
func (f *files) finish(root ocispec.Descriptor, dir string) error {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: []ocispec.Descriptor{root}}
	all, err := os.ReadDir(filepath.Join(f.dir, "blobs", "sha256"))
	if err != nil {
		return err
	}
	var names []string
	for _, blob := range all {
		names = append(names, blob.Name())
	}
	index.Annotations = map[string]string{madeAnnotation: strings.Join(names, " ")}
	body, err := json.Marshal(index)
	if err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(f.dir, ocispec.ImageIndexFile))
	if err != nil {
		return err
	}
	_, err = out.Write(body)
	if err := durable.Finish(out, err); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("put the rebuilt image in its place: %w", err)
	}
	return os.Rename(f.dir, dir)
}
