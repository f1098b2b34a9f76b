// Package rebuild makes an image of another by adding a layer to it and changing its configuration,
// for each of its platforms: the graph data image, and later filtered operator catalogs.
//
// Use Append. An *Image is a source to mirror from: what was made comes from memory, all else from
// the base's source. The result depends on the base and the change alone, so that a repeated run
// makes the same digest. oc-mirror writes the time into it, and so every run of it pushes another
// image.
//
// Refused: go-containerregistry's pkg/v1/mutate. It writes configurations anew from its own types,
// which drops the keys that it does not know.
package rebuild

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
)

// Source is one repository, as mirror.Source has it.
type Source interface {
	Manifest(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error)
	Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error)
	BlobFrom(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, int64, error)
	Stat(ctx context.Context, d digest.Digest) (int64, error)
}

// Change is what is done to an image.
type Change struct {
	Layer  []byte // a tar, added on top
	Cmd    []string
	Labels map[string]string // added, and put in the place of those with the same name
	Reason string            // of the layer, in the image's history
	Tag    string            // by which the new image is found
}

// maxConfig bounds the configuration of an image; a real one has some 10 KB.
const maxConfig = 4 << 20

// Image is an image that was made of another.
type Image struct {
	Root digest.Digest

	tag       string
	base      Source
	manifests map[digest.Digest]made
	blobs     map[digest.Digest][]byte
}

type made struct {
	desc ocispec.Descriptor
	body []byte
}

// Append changes the image that ref names. Attestations and other members of an index that are for
// no platform are left out, since they are about the image as it was.
func Append(ctx context.Context, base Source, ref string, c Change) (*Image, error) {
	i := &Image{base: base, tag: c.Tag, manifests: map[digest.Digest]made{}, blobs: map[digest.Digest][]byte{}}
	layer, err := i.compress(c.Layer)
	if err != nil {
		return nil, err
	}
	desc, body, err := base.Manifest(ctx, ref)
	if err != nil {
		return nil, err
	}
	b := builder{image: i, change: c, layer: layer, diffID: digest.FromBytes(c.Layer)}
	if image.IsIndex(desc.MediaType) {
		desc, err = b.index(ctx, desc, body)
	} else {
		desc, err = b.manifest(ctx, desc, body)
	}
	if err != nil {
		return nil, fmt.Errorf("rebuild %s: %w", ref, err)
	}
	i.Root = desc.Digest
	return i, nil
}

// compress adds the layer and returns its descriptor without media type, which is that of the
// base's family.
func (i *Image) compress(layer []byte) (ocispec.Descriptor, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(layer); err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := z.Close(); err != nil {
		return ocispec.Descriptor{}, err
	}
	return i.blob("", out.Bytes()), nil
}

func (i *Image) blob(mediaType string, data []byte) ocispec.Descriptor {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	i.blobs[desc.Digest] = data
	return desc
}

// put adds a manifest and returns its descriptor.
func (i *Image) put(mediaType string, manifest any) (ocispec.Descriptor, error) {
	body, err := json.Marshal(manifest)
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(body), Size: int64(len(body))}
	i.manifests[desc.Digest] = made{desc, body}
	return desc, err
}

// builder changes the manifests of one image.
type builder struct {
	image  *Image
	change Change
	layer  ocispec.Descriptor
	diffID digest.Digest
}

func (b *builder) index(ctx context.Context, desc ocispec.Descriptor, body []byte) (ocispec.Descriptor, error) {
	var index ocispec.Index
	if err := json.Unmarshal(body, &index); err != nil {
		return ocispec.Descriptor{}, err
	}
	members := index.Manifests
	index.Manifests = nil
	for _, m := range members {
		if m.Platform == nil || m.Platform.OS == "unknown" || image.IsIndex(m.MediaType) {
			continue
		}
		_, body, err := b.image.base.Manifest(ctx, m.Digest.String())
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		changed, err := b.manifest(ctx, m, body)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		changed.Platform = m.Platform
		index.Manifests = append(index.Manifests, changed)
	}
	if len(index.Manifests) == 0 {
		return ocispec.Descriptor{}, fmt.Errorf("index %s has no image for a platform", desc.Digest)
	}
	index.MediaType = desc.MediaType
	return b.image.put(desc.MediaType, index)
}

// layerTypes are the media types of a gzipped layer, by that of the manifest.
func layerType(manifest string) string {
	if manifest == ocispec.MediaTypeImageManifest {
		return ocispec.MediaTypeImageLayerGzip
	}
	return "application/vnd.docker.image.rootfs.diff.tar.gzip"
}

func (b *builder) manifest(ctx context.Context, desc ocispec.Descriptor, body []byte) (ocispec.Descriptor, error) {
	if desc.MediaType != ocispec.MediaTypeImageManifest && desc.MediaType != image.MediaTypeDockerManifest {
		return ocispec.Descriptor{}, fmt.Errorf("manifest %s is of type %s, which has no layers to add to", desc.Digest, desc.MediaType)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return ocispec.Descriptor{}, err
	}
	config, err := b.image.read(ctx, m.Config.Digest)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("configuration of %s: %w", desc.Digest, err)
	}
	if config, err = b.config(config); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("configuration of %s: %w", desc.Digest, err)
	}
	layer := b.layer
	layer.MediaType = layerType(desc.MediaType)
	m.Versioned, m.MediaType, m.Subject = specs.Versioned{SchemaVersion: 2}, desc.MediaType, nil
	m.Config = b.image.blob(m.Config.MediaType, config)
	m.Layers = append(m.Layers, layer)
	return b.image.put(desc.MediaType, m)
}

// read reads a blob of the base whole, which has few bytes.
func (i *Image) read(ctx context.Context, d digest.Digest) ([]byte, error) {
	body, _, err := i.base.Blob(ctx, d)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, maxConfig+1))
	if err == nil && len(data) > maxConfig {
		err = fmt.Errorf("it has more than %d bytes", maxConfig)
	}
	return data, err
}

// config changes the configuration of an image, see image-spec's config.md. Keys that are not known
// here stay.
func (b *builder) config(data []byte) ([]byte, error) {
	var all map[string]json.RawMessage
	var run map[string]json.RawMessage
	var labels map[string]string
	var rootfs ocispec.RootFS
	var history []json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, err
	}
	for _, part := range []struct {
		of   map[string]json.RawMessage
		name string
		to   any
	}{{all, "config", &run}, {all, "rootfs", &rootfs}, {all, "history", &history}} {
		if err := decode(part.of, part.name, part.to); err != nil {
			return nil, err
		}
	}
	if err := decode(run, "Labels", &labels); err != nil {
		return nil, err
	}
	if run == nil {
		run = map[string]json.RawMessage{}
	}
	if b.change.Labels != nil {
		merged := maps.Clone(b.change.Labels)
		for name, value := range labels {
			if _, ok := merged[name]; !ok {
				merged[name] = value
			}
		}
		labels = merged
	}
	rootfs.DiffIDs = append(rootfs.DiffIDs, b.diffID)
	if history != nil { // one that is there names each layer
		entry, err := json.Marshal(ocispec.History{CreatedBy: "appliance", Comment: b.change.Reason})
		if err != nil {
			return nil, err
		}
		history = append(history, entry)
	}
	return encode(all, run, labels, rootfs, history, b.change.Cmd)
}

func decode(of map[string]json.RawMessage, name string, to any) error {
	if len(of[name]) == 0 {
		return nil
	}
	if err := json.Unmarshal(of[name], to); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func encode(all, run map[string]json.RawMessage, labels map[string]string, rootfs ocispec.RootFS,
	history []json.RawMessage, cmd []string) ([]byte, error) {
	set := func(in map[string]json.RawMessage, name string, value any) error {
		raw, err := json.Marshal(value)
		in[name] = raw
		return err
	}
	if cmd != nil {
		if err := set(run, "Cmd", cmd); err != nil {
			return nil, err
		}
		delete(run, "ArgsEscaped")
	}
	if labels != nil {
		if err := set(run, "Labels", labels); err != nil {
			return nil, err
		}
	}
	if history != nil {
		if err := set(all, "history", history); err != nil {
			return nil, err
		}
	}
	if err := set(all, "rootfs", rootfs); err != nil {
		return nil, err
	}
	if err := set(all, "config", run); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

// Manifest returns a manifest that was made.
func (i *Image) Manifest(_ context.Context, ref string) (ocispec.Descriptor, []byte, error) {
	d := digest.Digest(ref)
	if ref == i.tag {
		d = i.Root
	}
	m, ok := i.manifests[d]
	if !ok {
		return ocispec.Descriptor{}, nil, fmt.Errorf("rebuilt image: manifest %s: %w", ref, fs.ErrNotExist)
	}
	return m.desc, m.body, nil
}

// Blob opens a blob that was made, or one of the base.
func (i *Image) Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
	if data, ok := i.blobs[d]; ok {
		return io.NopCloser(bytes.NewReader(data)), int64(len(data)), nil
	}
	return i.base.Blob(ctx, d)
}

// BlobFrom opens a blob at an offset, for a reader that verifies it.
func (i *Image) BlobFrom(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, int64, error) {
	if data, ok := i.blobs[d]; ok && offset <= int64(len(data)) {
		return io.NopCloser(bytes.NewReader(data[offset:])), int64(len(data)), nil
	}
	return i.base.BlobFrom(ctx, d, offset)
}

// Stat returns the size of a blob.
func (i *Image) Stat(ctx context.Context, d digest.Digest) (int64, error) {
	if data, ok := i.blobs[d]; ok {
		return int64(len(data)), nil
	}
	return i.base.Stat(ctx, d)
}

// Referrers lists none: what was attached to the base is not about what was made of it.
func (i *Image) Referrers(context.Context, digest.Digest) ([]ocispec.Descriptor, error) {
	return nil, nil
}
