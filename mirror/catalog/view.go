package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
)

// View makes views of catalogs: what a filter leaves of a catalog that a registry has, without the
// bundles of which an image is not there. A filter without a version falls back to the newest head
// that is whole.
type View struct {
	// Filter is an operator entry. Its catalog and its destination have no effect.
	Filter imageset.Operator
	// Dir keeps the files of catalogs, by their digests.
	Dir string
	// Room returns an error once no more is to be written to Dir. nil: it has room for all.
	Room func() error
	// Lacking returns those of some images that are not there, with the reasons.
	Lacking func(ctx context.Context, images []string) (map[string]string, error)
}

// Viewed is a view of one catalog. It depends on the digest of the catalog, the filter and the
// bundles that are whole, and on nothing else.
type Viewed struct {
	Original digest.Digest
	// Key is equal for equal images.
	Key      digest.Digest
	Packages []operator.Package
	Bundles  []operator.Bundle
	LeftOut  []LeftOut // whole packages first, then by package and name
	Warnings []string

	catalog   *Catalog
	dir       string // of the files of the catalog
	content   fs.FS
	selection *operator.Selection // nil: nothing is whole
	asIs      bool
	checked   bool // the files of the catalog are those of its image
}

// LeftOut is a bundle that the filter asks for and the view does not have, or, without the name of a
// bundle, a package.
type LeftOut struct{ Package, Bundle, Reason string }

// Of returns the view of the catalog in the image that ref names. A package that cannot be selected, or
// for which OLM would refuse the whole catalog, is left out. An error means that there is none that the
// filter can mean, or is ErrDamaged. That nothing is whole is no error: the view is empty then.
func (v View) Of(ctx context.Context, source Source, ref string) (*Viewed, error) {
	c, err := Find(ctx, source, ref)
	if err != nil {
		return nil, err
	}
	if v.Room != nil {
		c.room = v.Room
	}
	dir, err := c.Extract(ctx, v.Dir)
	if err != nil {
		return nil, err
	}
	made, err := v.of(ctx, c, dir)
	if err != nil && ctx.Err() == nil {
		err = errors.Join(discardDamaged(ctx, dir), err)
	}
	return made, err
}

// of returns the view of a catalog whose files are in dir.
func (v View) of(ctx context.Context, c *Catalog, dir string) (*Viewed, error) {
	index, content, err := readFiles(ctx, dir)
	if err != nil {
		return nil, err
	}
	of := &bundleImages{index: index, content: content, file: filepath.Join(filepath.Dir(dir), imagesFile)}
	wanted, left, failed, err := v.choose(v.Filter, index, nil)
	if err != nil {
		return nil, err
	}
	lacking, err := v.lacking(ctx, of)
	if err != nil {
		return nil, err
	}
	made := &Viewed{Original: c.Digest, catalog: c, dir: dir, content: content}
	if err := v.choosePresent(left, index, wanted, lacking, made); err != nil {
		return nil, err
	}
	for n, f := range failed {
		made.LeftOut = slices.Insert(made.LeftOut, n, LeftOut{Package: f.name, Reason: f.err.Error()})
	}
	return made, nil
}

// choosePresent selects what is whole of what is left of the filter.
func (v View) choosePresent(left imageset.Operator, index *operator.Index, wanted *operator.Selection, lacking map[operator.Bundle]string, made *Viewed) error {
	lacks := func(pkg, bundle string) bool {
		_, lacks := lacking[operator.Bundle{Package: pkg, Name: bundle}]
		return lacks
	}
	present, _, _, err := v.choose(left, index, lacks)
	switch {
	case errors.Is(err, operator.ErrNothing):
		present = &operator.Selection{Warnings: []operator.Warning{{Text: err.Error()}}}
	case err != nil:
		return err
	default:
		made.selection, made.asIs = present, present.Whole() && len(lacking) == 0
	}
	made.Key, made.Packages, made.Bundles = made.catalog.key(present), present.Packages, present.Bundles
	made.LeftOut = leftOut(wanted, present, lacking)
	for _, w := range present.Warnings {
		made.Warnings = append(made.Warnings, w.Text)
	}
	return nil
}

func (v View) choose(ask imageset.Operator, index *operator.Index, lacks func(pkg, bundle string) bool) (*operator.Selection, imageset.Operator, []unselectable, error) {
	s, left, failed, err := chooser{index, lacks, true}.choose(ask)
	if err == nil && v.Filter.FollowDependencies {
		s.Follow()
	}
	return s, left, failed, err
}

// lacking returns the bundles of which an image is not there, with the reasons. The versions of the
// bundles are empty.
func (v View) lacking(ctx context.Context, of *bundleImages) (map[operator.Bundle]string, error) {
	var packages []string
	for _, p := range v.Filter.Packages {
		packages = append(packages, p.Name)
	}
	if v.Filter.FollowDependencies {
		packages = nil // any may be required
	}
	all, err := of.list(ctx, packages)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, i := range all {
		if i.Fault == "" {
			names = append(names, i.Image)
		}
	}
	slices.Sort(names)
	absent, err := v.Lacking(ctx, slices.Compact(names))
	if err != nil {
		return nil, err
	}
	lacking := map[operator.Bundle]string{}
	for _, i := range all {
		reason, lacks := absent[i.Image]
		if i.Fault != "" {
			reason, lacks = i.Fault, true
		}
		b := operator.Bundle{Package: i.Package, Name: i.Bundle}
		if _, known := lacking[b]; lacks && !known {
			lacking[b] = fmt.Sprintf("image %s: %s", i.Image, reason)
		}
	}
	return lacking, nil
}

// leftOut returns the bundles that are wanted and not selected.
func leftOut(wanted, present *operator.Selection, lacking map[operator.Bundle]string) []LeftOut {
	has := map[operator.Bundle]bool{}
	for _, b := range present.Bundles {
		has[b] = true
	}
	var all []LeftOut
	for _, b := range wanted.Bundles {
		if has[b] {
			continue
		}
		reason := lacking[operator.Bundle{Package: b.Package, Name: b.Name}]
		if reason == "" {
			reason = "the upgrade path from it leads through a bundle that is not whole, and a channel has one head"
		}
		all = append(all, LeftOut{b.Package, b.Name, reason})
	}
	return all
}

// Image makes the image of the view, with what is made of it in dir. It returns the source to copy it
// from, and its digest. A whole catalog, of which nothing lacks, is its original. ErrDamaged means that
// the view is to be made again.
func (v *Viewed) Image(ctx context.Context, dir string) (Source, digest.Digest, error) {
	if v.asIs {
		return v.catalog.source, v.Original, nil
	}
	files, err := v.files(ctx)
	if err != nil {
		return nil, "", err
	}
	made, err := v.catalog.with(ctx, dir, files, v.content)
	if err != nil {
		return nil, "", err
	}
	return made, made.Root, nil
}

// Content returns the digest of the files that the view's catalog has. Unlike Key it is equal for equal
// files of two originals. The error may be ErrDamaged.
func (v *Viewed) Content(ctx context.Context) (digest.Digest, error) {
	files, err := v.files(ctx)
	if err != nil {
		return "", err
	}
	of := digest.Canonical.Digester()
	for _, f := range files {
		fmt.Fprintf(of.Hash(), "%q %d\n", f.Name, f.Size)
		if err := f.WriteTo(ctx, v.content, of.Hash()); err != nil {
			return "", err
		}
	}
	return of.Digest(), nil
}

// files returns the files of the view's catalog.
func (v *Viewed) files(ctx context.Context) ([]operator.File, error) {
	if !v.checked {
		if err := discardDamaged(ctx, v.dir); err != nil {
			return nil, err
		}
		v.checked = true
	}
	if v.selection == nil {
		return nil, nil
	}
	return v.selection.Files(ctx, v.content)
}

// PruneViews removes what a directory of views keeps of catalogs other than some.
func PruneViews(dir string, used []digest.Digest) error {
	all, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, d := range all {
		if slices.ContainsFunc(used, func(u digest.Digest) bool { return u.Encoded() == d.Name() }) {
			continue
		}
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, d.Name())))
	}
	return err
}
