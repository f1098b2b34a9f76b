package metadata

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/layers"
)

// file is where metadata is, in a directory and in the layer of an image.
const file = "publish/.metadata.json"

// maxSize bounds metadata. That of a mirror with all of Red Hat's operators has some 20 MB.
const maxSize = 256 << 20

// Store has metadata. What it does not have is an error with fs.ErrNotExist.
type Store interface {
	read(ctx context.Context) ([]byte, error)
	write(ctx context.Context, data []byte) error
	damaged(err error) error // adds where it is, and what to do
}

// Read reads metadata, nil if there is none.
func Read(ctx context.Context, from Store) (*Metadata, error) {
	data, err := from.read(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the metadata of oc-mirror v1: %w", err)
	}
	m, err := Parse(data)
	if err != nil {
		return nil, from.damaged(err)
	}
	return m, nil
}

// Write writes metadata.
func Write(ctx context.Context, to Store, m *Metadata) error {
	data, err := json.Marshal(m)
	if err == nil {
		err = to.write(ctx, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write the metadata of oc-mirror v1: %w", err)
	}
	return nil
}

// Directory is a directory with metadata.
type Directory string

func (d Directory) path() string { return filepath.Join(string(d), filepath.FromSlash(file)) }

func (d Directory) read(context.Context) ([]byte, error) { return os.ReadFile(d.path()) }

func (d Directory) write(_ context.Context, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(d.path()), 0o750); err != nil {
		return err
	}
	tmp, err := os.OpenFile(d.path()+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	return durable.Replace(d.path(), tmp, data)
}

func (d Directory) damaged(err error) error {
	return hint.New(fmt.Errorf("%s: %w", d.path(), err),
		"the destination has a copy, in the image oc-mirror:UID below the path that is mirrored to: name it as storageConfig.registry.imageURL in the place of local.path. Without it, move the file away: all is mirrored as for the first time, and nothing is deleted")
}

// Registry is what an Image needs of a registry. What it does not have is an error with fs.ErrNotExist.
type Registry interface {
	Manifest(ctx context.Context, repo, ref string) (ocispec.Descriptor, []byte, error)
	Blob(ctx context.Context, repo string, d digest.Digest) (io.ReadCloser, int64, error)
	PutBlob(ctx context.Context, repo string, desc ocispec.Descriptor, content io.Reader) error
	PutManifest(ctx context.Context, repo string, desc ocispec.Descriptor, body []byte) error
	Tag(ctx context.Context, tags map[string]map[string]digest.Digest) error
	Commit(ctx context.Context) error
}

// Image is an image whose only layer has metadata.
type Image struct {
	Registry        Registry
	Repository, Tag string
}

func (i Image) read(ctx context.Context) ([]byte, error) {
	_, body, err := i.Registry.Manifest(ctx, i.Repository, i.Tag)
	if err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, fmt.Errorf("%s:%s: %w", i.Repository, i.Tag, err)
	}
	for _, l := range m.Layers {
		data, err := i.layer(ctx, l)
		if err != nil || data != nil {
			return data, err
		}
	}
	return nil, fmt.Errorf("%s:%s is no image with metadata: it has no file %s", i.Repository, i.Tag, file)
}

func (i Image) damaged(err error) error {
	return hint.New(fmt.Errorf("image %s:%s: %w", i.Repository, i.Tag, err),
		"delete that image: the next run writes it again from what storageConfig has; if it is what storageConfig has, all is mirrored as for the first time, and nothing is deleted")
}

// layer returns the metadata in a layer, nil if it has none.
func (i Image) layer(ctx context.Context, l ocispec.Descriptor) (data []byte, err error) {
	body, _, err := i.Registry.Blob(ctx, i.Repository, l.Digest)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	err = layers.Read(body, func(e layers.Entry, content io.Reader) (err error) {
		if e.Name == file {
			data, err = io.ReadAll(io.LimitReader(content, maxSize))
		}
		return err
	})
	return data, err
}

func (i Image) write(ctx context.Context, data []byte) error {
	var layer, zipped bytes.Buffer
	err := layers.Write(&layer, []layers.NewFile{{Name: file, Size: int64(len(data)), Write: func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}}})
	if err != nil {
		return err
	}
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(layer.Bytes()); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	config, err := json.Marshal(ocispec.Image{RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer.Bytes())}}})
	if err != nil {
		return err
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: dockerManifest}
	if m.Config, err = i.put(ctx, dockerConfig, config); err != nil {
		return err
	}
	of, err := i.put(ctx, dockerLayer, zipped.Bytes())
	if err != nil {
		return err
	}
	m.Layers = append(m.Layers, of)
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	desc := ocispec.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}
	if err := i.Registry.PutManifest(ctx, i.Repository, desc, body); err != nil {
		return err
	}
	if err := i.Registry.Tag(ctx, map[string]map[string]digest.Digest{i.Repository: {i.Tag: desc.Digest}}); err != nil {
		return err
	}
	return i.Registry.Commit(ctx)
}

// Media types of version 1's images: registries that it was used with take them.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

func (i Image) put(ctx context.Context, mediaType string, data []byte) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return desc, i.Registry.PutBlob(ctx, i.Repository, desc, bytes.NewReader(data))
}
