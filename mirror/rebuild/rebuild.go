// Package rebuild makes an image of another, for each of its platforms: it takes directories out of
// the layers, adds a layer on top, and changes the configuration. The graph data image and filtered
// operator catalogs are made so.
//
// Use Make, and Open for an image that was made before. An *Image is a source to mirror from: made
// content comes from a directory, all else from the base's source. The result depends on the base
// and the change alone, so that a repeated run makes the same digest. oc-mirror writes the time into
// it, and so every run of it pushes another image.
//
// No whiteouts are written. OLM v1 unpacks a catalog's directory alone, and would never see one that
// is beside it; and the files that a whiteout hides stay in the image.
//
// Refused: go-containerregistry's pkg/v1/mutate. It writes configurations anew from its own types,
// which drops the keys that it does not know.
package rebuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

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
	// Without are directories that are taken out of the layers. One with a slash at its end stays
	// itself, and is emptied.
	Without []string
	Layer   func(w io.Writer) error // writes a tar, which is added on top
	Cmd     []string
	Labels  map[string]string // added, and put in the place of those with the same name
	Reason  string            // of the layer, in the image's history
	Tag     string            // by which the new image is found
}

// maxConfig bounds the configuration of an image; a real one has some 10 KB.
const maxConfig = 4 << 20

// maxDepth bounds indexes in indexes.
const maxDepth = 5

// Make changes the image that ref names. Made content is in the directory dir afterwards, in the
// place of what was there; after an error, dir is as it was. Attestations and other members of an
// index that are for no platform are left out, since they are about the image as it was.
func Make(ctx context.Context, base Source, ref, dir string, c Change) (*Image, error) {
	next := dir + ".next"
	files, err := newFiles(next)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(next)
	b := &builder{base: base, files: files, change: c, stripped: map[digest.Digest]stripped{}}
	root, err := b.make(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("rebuild %s: %w", ref, err)
	}
	if err := files.finish(root, dir); err != nil {
		return nil, err
	}
	return Open(base, dir, c.Tag)
}

// builder changes the manifests of one image.
type builder struct {
	base     Source
	files    *files
	change   Change
	without  []directory
	layer    layer // on top
	stripped map[digest.Digest]stripped
}

func (b *builder) make(ctx context.Context, ref string) (root ocispec.Descriptor, err error) {
	for _, name := range b.change.Without {
		d, err := newDirectory(name)
		if err != nil {
			return root, err
		}
		b.without = append(b.without, d)
	}
	desc, body, err := b.base.Manifest(ctx, ref)
	if err != nil {
		return root, err
	}
	if b.layer, err = b.files.layer(b.change.Layer); err != nil {
		return root, fmt.Errorf("write the new layer: %w", err)
	}
	if image.IsIndex(desc.MediaType) {
		return b.index(ctx, desc, body, 0)
	}
	return b.manifest(ctx, desc, body)
}

// errNoPlatform says that an index has no image.
var errNoPlatform = errors.New("it has no image for a platform")

func (b *builder) index(ctx context.Context, desc ocispec.Descriptor, body []byte, depth int) (ocispec.Descriptor, error) {
	var index ocispec.Index
	if err := json.Unmarshal(body, &index); err != nil {
		return ocispec.Descriptor{}, err
	}
	if depth > maxDepth {
		return ocispec.Descriptor{}, fmt.Errorf("indexes are nested deeper than %d", maxDepth)
	}
	members := index.Manifests
	index.Manifests, index.Subject = nil, nil
	for _, m := range members {
		changed, err := b.member(ctx, m, depth)
		if errors.Is(err, errNoPlatform) {
			continue
		}
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		changed.Platform, changed.Annotations = m.Platform, m.Annotations
		index.Manifests = append(index.Manifests, changed)
	}
	if len(index.Manifests) == 0 {
		return ocispec.Descriptor{}, fmt.Errorf("index %s: %w", desc.Digest, errNoPlatform)
	}
	index.MediaType = desc.MediaType
	return b.files.manifest(desc.MediaType, index)
}

// member changes a member of an index: errNoPlatform if it is not an image, has none, or is absent.
func (b *builder) member(ctx context.Context, m ocispec.Descriptor, depth int) (ocispec.Descriptor, error) {
	if m.Platform != nil && m.Platform.OS == "unknown" {
		return ocispec.Descriptor{}, errNoPlatform
	}
	desc, body, err := b.base.Manifest(ctx, m.Digest.String())
	if errors.Is(err, fs.ErrNotExist) { // of a platform that was not mirrored
		return ocispec.Descriptor{}, errNoPlatform
	}
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if image.IsIndex(desc.MediaType) {
		return b.index(ctx, desc, body, depth+1)
	}
	if m.Platform == nil && !hasFiles(body) {
		return ocispec.Descriptor{}, errNoPlatform
	}
	return b.manifest(ctx, m, body)
}

// hasFiles reports whether the layers of a manifest are file systems. Those of signatures and
// attestations are not. A layout need not say which platforms its images are for.
func hasFiles(body []byte) bool {
	var m ocispec.Manifest
	if json.Unmarshal(body, &m) != nil || len(m.Layers) == 0 || m.Subject != nil {
		return false
	}
	for _, l := range m.Layers {
		if !strings.Contains(l.MediaType, ".tar") {
			return false
		}
	}
	return true
}

// layerType returns the media type of a gzipped layer, by that of the manifest.
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
	raw, err := read(ctx, b.base, m.Config.Digest)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("configuration of %s: %w", desc.Digest, err)
	}
	config, err := parseConfig(raw)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("configuration of %s: %w", desc.Digest, err)
	}
	if m.Layers, err = b.strip(ctx, desc.MediaType, m.Layers, config); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	if raw, err = config.change(b.change, b.layer.diffID); err != nil {
		return ocispec.Descriptor{}, err
	}
	m.Versioned, m.MediaType, m.Subject = specs.Versioned{SchemaVersion: 2}, desc.MediaType, nil
	m.Layers = append(m.Layers, b.layer.descriptor(desc.MediaType))
	if m.Config, err = b.files.put(m.Config.MediaType, raw); err != nil {
		return ocispec.Descriptor{}, err
	}
	return b.files.manifest(desc.MediaType, m)
}

// read reads a blob whole, which has few bytes.
func read(ctx context.Context, base Source, d digest.Digest) ([]byte, error) {
	body, _, err := base.Blob(ctx, d)
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
