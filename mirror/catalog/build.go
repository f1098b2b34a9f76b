package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/layers"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/rebuild"
)

// filteredDir is oc-mirror's, beside the files of a catalog.
const filteredDir = "filtered-catalogs"

// build makes the image of the catalog without the bundles that lack an image. A whole catalog of
// which nothing lacks is copied as it is.
func (e *entry) build(ctx context.Context, warnings *[]string) (Made, error) {
	e.image.Whole = e.whole() && !e.lacking.of(e.ask.Catalog)
	if whole(e.left) && !e.plain && !e.lacking.of(e.ask.Catalog) {
		e.image.Reference = e.base
		e.image.Reference.Tag, e.image.Reference.Digest = "", e.catalog.Digest
		e.place(e.catalog.Digest)
		all, err := e.index.Select(e.left, nil)
		if err != nil {
			return Made{}, err
		}
		e.offer, e.built = offerOf(all), true
		return Made{Image: e.image}, nil
	}
	selection, err := e.index.Select(e.left, e.lacks())
	if err != nil {
		return Made{}, err
	}
	if e.follows() {
		selection.Follow()
	}
	e.offer = offerOf(selection)
	if err := e.stays(ctx, e.offer); err != nil {
		return Made{}, err
	}
	for _, w := range e.texts(selection.Warnings) {
		if !slices.Contains(*warnings, w) {
			*warnings = append(*warnings, w)
		}
	}
	var made *rebuild.Image
	err = e.again(ctx, warnings, func() error {
		files, err := selection.Files(ctx, e.content)
		if err == nil {
			made, err = e.rebuild(ctx, files, warnings)
		}
		if err == nil && e.ToArchive {
			err = e.document(ctx, files, made.Root)
		}
		return err
	})
	if err != nil {
		return Made{}, e.catalog.full(e.path(), err)
	}
	e.image.Reference = imageset.Reference{Transport: "docker", Path: path.Join(root, made.Root.Encoded()), Digest: made.Root}
	e.place(made.Root)
	e.built = true
	return Made{e.image, made}, nil
}

// lacks returns what is as if it were not in the catalog, nil for nothing: bundles of which an image
// failed, and those whose images were not asked for, to which a selection would else fall back.
func (e *entry) lacks() func(pkg, bundle string) bool {
	if !e.lacking.of(e.ask.Catalog) {
		return nil
	}
	return func(pkg, bundle string) bool {
		b := plan.Bundle{Catalog: e.ask.Catalog, Package: pkg, Name: bundle}
		return e.lacking[b] != nil || !e.chosen[b]
	}
}

// place sets the destination of the image.
func (e *entry) place(built digest.Digest) {
	e.image.Repository, e.image.Tag = e.Repository(e.repository()), e.tag()
	switch {
	case e.ToArchive && e.key != "":
		e.image.Tag = e.key
	case e.image.Tag == "":
		e.image.Tag = imageset.Reference{Digest: built}.DestinationTag()
	}
}

// rebuild makes the image with what a selection leaves, unless the workspace has it: another version
// of this program may compress otherwise, and a new digest restarts the pods of a catalog. One that is
// damaged is made anew.
func (e *entry) rebuild(ctx context.Context, files []operator.File, warnings *[]string) (*rebuild.Image, error) {
	key := operator.Key(e.left, e.digest(), e.follows(), e.lacking.bundles(e.ask.Catalog))
	dir := e.path(e.digest().Encoded(), filteredDir, key.Encoded(), "image")
	if _, err := os.Stat(dir); err == nil {
		made, err := rebuild.Open(e.catalog.source, dir, "")
		if err == nil {
			err = made.Check(ctx)
		}
		if err == nil || ctx.Err() != nil {
			return made, err
		}
		e.damaged(warnings, err)
	}
	return e.catalog.with(ctx, dir, files, e.content)
}

// with makes the image in dir that has some files of the catalog's content in the place of all.
func (c *Catalog) with(ctx context.Context, dir string, files []operator.File, content fs.FS) (*rebuild.Image, error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	var all []layers.NewFile
	for _, f := range files {
		all = append(all, layers.NewFile{Name: path.Join(c.Directory, f.Name), Size: f.Size,
			Write: func(w io.Writer) error { return f.WriteTo(ctx, content, w) }})
	}
	if len(files) == 0 { // the directory must exist, and opm and catalogd read an empty one
		all = []layers.NewFile{{Name: path.Join(c.Directory, ".indexignore"), Write: func(io.Writer) error { return nil }}}
	}
	return c.rebuild(ctx, dir, "", func(w io.Writer) error { return layers.Write(w, all) })
}

// document writes what oc-mirror wants of a filtered catalog beside its image, for the archive.
func (e *entry) document(ctx context.Context, files []operator.File, built digest.Digest) error {
	dir := e.path(e.original.Encoded(), filteredDir, e.key)
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = e.replaceConfig(ctx, dir, files)
	}
	made := filepath.Join(dir, "digest")
	if err == nil {
		err = durable.IgnoreMissing(os.Remove(made))
	}
	if err == nil {
		err = os.WriteFile(made, []byte(built.Encoded()), 0o644)
	}
	if errors.Is(err, fs.ErrPermission) {
		if there, _ := os.ReadFile(made); string(there) == built.Encoded() {
			return nil // the directory is another user's, and has just that
		}
	}
	if err != nil {
		return fmt.Errorf("write the filtered catalog to the workspace: %w", e.denied(err))
	}
	return nil
}

// replaceConfig writes the files of a filtered catalog. Those that are there are moved aside first:
// what another user's run has left cannot be removed.
func (e *entry) replaceConfig(ctx context.Context, dir string, files []operator.File) error {
	config := filepath.Join(dir, "catalog-config")
	next, err := os.MkdirTemp(dir, "next.")
	if err == nil {
		err = os.Chmod(next, 0o755)
	}
	for _, f := range files {
		if err == nil {
			err = writeFile(ctx, filepath.Join(next, filepath.FromSlash(f.Name)), f, e.content)
		}
	}
	if err == nil {
		err = durable.IgnoreMissing(os.Rename(config, next+".old"))
	}
	if err == nil {
		err = os.Rename(next, config)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "next.*")) // the pattern is right
	for _, path := range append(left, config+".next") {
		_ = os.RemoveAll(path) // of another user it stays, and is not in archives
	}
	return err
}

func writeFile(ctx context.Context, name string, f operator.File, content fs.FS) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	return durable.Finish(out, f.WriteTo(ctx, content, out))
}

// Original is the manifest that the tag of a filtered catalog's original names.
type Original struct {
	Repository, Tag string
	Descriptor      ocispec.Descriptor
	Body            []byte
}

// Originals returns those of the catalogs that were built and have not failed since, by the names that an
// archive has them under.
func (c *Collector) Originals(ctx context.Context, failed func(*plan.Image) bool) ([]Original, error) {
	var all []Original
	for _, e := range c.entries {
		if !e.built || failed(e.image) || e.key == "" || e.tag() == "" || e.plain {
			continue
		}
		desc, body, err := e.catalog.source.Manifest(ctx, e.original.String())
		if err != nil {
			return nil, err
		}
		all = append(all, Original{c.Repository(e.repository()), e.tag(), desc, body})
	}
	return all, nil
}
