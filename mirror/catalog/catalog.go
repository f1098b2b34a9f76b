// Package catalog collects what mirror.operators of an image set configuration asks for: operator
// catalogs, filtered, and the images of the bundles that are left in them.
//
// Use a Collector. Collect adds the images of bundles to a plan, Build makes the catalogs without
// the bundles whose images cannot be read, and Amend makes those again of which images have failed
// on their way. So no catalog offers a cluster what it cannot install, and an image that is missing
// costs its bundle and not the catalog. Package operator knows what a catalog without a bundle is,
// package rebuild makes its image.
//
// A Catalog is the one in an image, from any source of a mirror: a registry, an archive, an OCI
// layout. Use Find, then Extract. A catalog that is a plain directory is made into an image.
//
// Refused: writing the digest of a catalog into a copy of the configuration before the catalog is
// copied, as oc-mirror does to pin it. The report has it, and the next run is to see the next one.
package catalog

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/operator"
)

// Labels of an image's configuration: the directory of a file-based catalog, and the file of an
// SQLite catalog, which came before those.
const (
	labelConfigs  = "operators.operatorframework.io.index.configs.v1"
	labelDatabase = "operators.operatorframework.io.index.database.v1"
)

// Bounds of an image: of indexes in indexes, of its manifests, and of a configuration.
const (
	maxDepth     = 5
	maxManifests = 100
	maxConfig    = 4 << 20
)

// Source is one repository, as mirror.Source has it.
type Source interface {
	Manifest(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error)
	Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error)
	BlobFrom(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, int64, error)
	Stat(ctx context.Context, d digest.Digest) (int64, error)
}

// Catalog is a catalog in an image.
type Catalog struct {
	Digest    digest.Digest // of the image, or of the index that it is
	Directory string        // of the catalog, in the image

	source Source
	layers []digest.Digest // of the first image that has the catalog
	size   int64           // of those
	caches []string        // of all images of the index
	absent []digest.Digest // members of the index that the source does not have
	room   func() error    // returns an error once no more files are to be written
}

// Load reads the catalog in the image that ref names, with its files in a directory below dir.
func Load(ctx context.Context, source Source, ref, dir string) (*operator.Index, fs.FS, error) {
	c, err := Find(ctx, source, ref)
	if err != nil {
		return nil, nil, err
	}
	at, err := c.Extract(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	files := os.DirFS(at)
	index, err := operator.Scan(ctx, files)
	return index, files, err
}

// Find finds the catalog of the image that ref names: of an index, that of the first image whose
// label names a directory. Members that the source does not have are left out as long as another has the
// catalog: where some platforms are mirrored the others are absent. An image without the label is an
// error.
func Find(ctx context.Context, source Source, ref string) (*Catalog, error) {
	f := &finder{source: source, found: &Catalog{source: source, room: func() error { return nil }}}
	desc, body, err := source.Manifest(ctx, ref)
	if err != nil {
		return nil, err
	}
	f.found.Digest = desc.Digest
	if err := f.manifest(ctx, desc, body, 0); err != nil {
		return nil, fmt.Errorf("the image of the catalog: %w", err)
	}
	switch {
	case f.found.Directory != "":
		return f.found, nil
	case f.database != "":
		return nil, hint.New(fmt.Errorf("the image is an SQLite catalog (its label %s names %s), which is not supported", labelDatabase, f.database),
			"name a file-based catalog: all catalogs since OpenShift 4.11 are; opm migrate makes one of an SQLite catalog")
	}
	if f.absent != nil {
		return nil, fmt.Errorf("the image of the catalog: %w", f.absent)
	}
	return nil, hint.New(fmt.Errorf("the image is not an operator catalog: it has no label %s", labelConfigs),
		"name a catalog in mirror.operators, such as registry.redhat.io/redhat/redhat-operator-index:v4.18, and other images in additionalImages")
}

// key is equal for selections of which equal images are made: of the members that are there.
func (c *Catalog) key(s *operator.Selection) digest.Digest {
	key := s.Key(c.Digest)
	if len(c.absent) == 0 {
		return key
	}
	return digest.FromString(fmt.Sprint(key, c.absent))
}

// finder reads the manifests and configurations of an image.
type finder struct {
	source    Source
	found     *Catalog
	database  string
	manifests int
	absent    error // of the first member that the source does not have
}

func (f *finder) manifest(ctx context.Context, desc ocispec.Descriptor, body []byte, depth int) error {
	if f.manifests++; depth > maxDepth || f.manifests > maxManifests {
		return fmt.Errorf("indexes are nested deeper than %d, or more than %d manifests are below one", maxDepth, maxManifests)
	}
	parsed, err := image.Parse(desc.MediaType, body)
	if err != nil {
		return fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	if !image.IsIndex(desc.MediaType) {
		if err := f.image(ctx, parsed); err != nil {
			return fmt.Errorf("manifest %s: %w", desc.Digest, err)
		}
		return nil
	}
	for _, child := range parsed.References {
		if child.Kind != image.Child || strings.HasPrefix(child.Platform, "unknown") {
			continue
		}
		desc, body, err := f.source.Manifest(ctx, child.Digest.String())
		if errors.Is(err, fs.ErrNotExist) { // of a platform that was not mirrored
			f.absent = cmp.Or(f.absent, err)
			f.found.absent = append(f.found.absent, child.Digest)
			continue
		}
		if err == nil {
			err = f.manifest(ctx, desc, body, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// image reads the configuration of an image. An artifact has none.
func (f *finder) image(ctx context.Context, m image.Manifest) error {
	at := slices.IndexFunc(m.References, func(r image.Reference) bool { return r.Kind == image.Config })
	if at < 0 {
		return nil
	}
	body, _, err := f.source.Blob(ctx, m.References[at].Digest)
	if err != nil {
		return err
	}
	defer body.Close()
	raw, err := io.ReadAll(io.LimitReader(body, maxConfig+1))
	if err == nil && len(raw) > maxConfig {
		err = fmt.Errorf("its configuration has more than %d bytes", maxConfig)
	}
	var config ocispec.Image
	if err == nil {
		err = json.Unmarshal(raw, &config)
	}
	if err != nil {
		return fmt.Errorf("read its configuration: %w", err)
	}
	return f.configuration(config.Config, m)
}

func (f *finder) configuration(c ocispec.ImageConfig, m image.Manifest) error {
	f.database = max(f.database, c.Labels[labelDatabase])
	directory := c.Labels[labelConfigs]
	if directory == "" {
		return nil
	}
	directory = path.Clean("/" + directory)
	if directory == "/" {
		return hint.New(errors.New("its label "+labelConfigs+" names the root of the image"),
			"build the catalog's image with a directory of its own for the catalog, as opm generate dockerfile does: /configs")
	}
	if f.found.Directory == "" {
		f.found.Directory = directory
		for _, r := range m.References {
			if r.Kind == image.Layer {
				f.found.layers = append(f.found.layers, r.Digest)
				f.found.size += max(r.Size, 0)
			}
		}
	} else if f.found.Directory != directory {
		return hint.New(fmt.Errorf("its catalog is in %s, and in %s in another image of the index", directory, f.found.Directory),
			"build the images of all platforms with the catalog in one directory, such as /configs")
	}
	for _, cache := range cachesOf(append(slices.Clone(c.Entrypoint), c.Cmd...)) {
		if !slices.Contains(f.found.caches, cache) {
			f.found.caches = append(f.found.caches, cache)
		}
	}
	return nil
}

// cachesOf returns the directories of opm's cache that a command names.
func cachesOf(command []string) (all []string) {
	const flag = "--cache-dir"
	for n, word := range command {
		dir, ok := strings.CutPrefix(word, flag+"=")
		if word == flag && n+1 < len(command) {
			dir, ok = command[n+1], true
		}
		if dir = path.Clean("/" + dir); ok && dir != "/" {
			all = append(all, dir)
		}
	}
	return all
}
