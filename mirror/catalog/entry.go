package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// entry is one entry of mirror.operators.
type entry struct {
	*Collector
	ask   imageset.Operator
	image *plan.Image
	ref   imageset.Reference // as the entry has it

	original digest.Digest      // of the catalog that the entry names
	key      string             // of the filter, as oc-mirror makes it; "" for a whole catalog
	base     imageset.Reference // what is read: the original, or what an archive has of it
	left     imageset.Operator  // what is wanted of base
	catalog  *Catalog           // in base
	content  fs.FS              // its files
	index    *operator.Index
	chosen   map[plan.Bundle]bool         // whose images were asked for
	plain    bool                         // the content is that of a directory, or of an archive of version 1, and not of an image
	v1       *OfV1                        // in the archive of version 1 that is read
	starts   map[string]map[string]string // what its channels begin with
	selected Offer                        // what is chosen; nil: it is that of an archive
	failed   []string                     // packages that cannot be selected
	built    bool
	offer    Offer // of the image that was built
}

// entry returns an entry, whose image says where it comes from and why.
func (c *Collector) entry(n int) *entry {
	ask := c.Config.Mirror.Operators[n]
	return &entry{Collector: c, ask: ask, left: ask, image: &plan.Image{
		Type: plan.OperatorCatalog, Origin: ask.Catalog, Platforms: ask.Platforms, UniqueName: ask.UniqueName(),
		Reason: c.Config.At(fmt.Sprintf("mirror.operators[%d]", n)),
	}}
}

// whole reports whether the entry is for a catalog as it is.
func (e *entry) whole() bool { return whole(e.ask) }

// destination returns the catalog's repository at a destination, without its prefix, and its tag, "" for one that is
// made of its digest. Version 1 names a catalog in a layout by its whole path.
func (e *entry) destination() (repository, tag string) {
	repository, tag = e.ask.Destination(e.ref)
	switch {
	case !e.V1 || e.ofFiles():
	case e.ref.IsLayout() && e.ask.TargetCatalog == "":
		repository = strings.ToLower(strings.Trim(e.ref.Path, "/"))
		if tag = cmp.Or(e.ask.TargetTag, e.ref.Tag); tag == "" {
			tag = shortV1(e.original)
		}
	case tag == "":
		tag = shortV1(e.ref.Digest)
	}
	return repository, tag
}

// repository returns the catalog's repository at a destination, without its prefix.
func (e *entry) repository() string {
	repository, _ := e.destination()
	return repository
}

// local reports whether the catalog is on this host: an OCI layout, or its plain files.
func (e *entry) local() bool { return e.ofFiles() || e.ref.IsLayout() }

// ofFiles reports whether the catalog is the files of a directory of this host, or in an archive the
// image that was made of them.
func (e *entry) ofFiles() bool { return e.ref.Transport == imageset.FilesTransport }

// tag returns the catalog's tag at a destination, "" for one that is made of its digest.
func (e *entry) tag() string {
	_, tag := e.destination()
	return tag
}

// find finds what is read of the catalog.
func (e *entry) find(ctx context.Context) (err error) {
	e.image.Reference, e.base = e.ref, e.ref
	if e.OfV1 != nil {
		return e.findInV1(ctx)
	}
	if e.Archive != nil {
		return e.findInArchive(ctx)
	}
	if e.plain {
		err = e.findFiles(ctx)
	} else if e.catalog, err = e.open(ctx, e.ref); err == nil {
		e.original = e.catalog.Digest
	}
	if err != nil {
		return err
	}
	if !e.whole() {
		e.key, _ = operator.FilterKeys(e.ask, e.original)
	}
	return nil
}

// parse reads the name of the catalog.
func (e *entry) parse() (err error) {
	e.ref, err = e.ask.Reference()
	e.plain = e.ofFiles() && e.Archive == nil
	return err
}

// open finds the catalog in the image that a reference names.
func (e *entry) open(ctx context.Context, ref imageset.Reference) (*Catalog, error) {
	source, err := e.Open(ref)
	if err != nil {
		return nil, err
	}
	return Find(ctx, source, ref.Ref())
}

// findInArchive finds the catalog in the archive that is mirrored from: as it is, or filtered, under
// the key of the filter.
func (e *entry) findInArchive(ctx context.Context) (err error) {
	if e.local() {
		e.base = imageset.Reference{Transport: "docker"}
	}
	e.base.Path, e.base.Tag = e.ask.Destination(e.ref) // archives are those of version 2
	if e.whole() {
		if e.catalog, err = e.open(ctx, e.base); err == nil {
			e.original = e.catalog.Digest
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = cmp.Or(e.failedThere(), err)
		}
		return err
	}
	originals, err := e.originals(ctx)
	if err != nil {
		return err
	}
	e.left = imageset.Operator{Catalog: e.ask.Catalog, Full: true}
	for _, original := range originals {
		key, legacy := operator.FilterKeys(e.ask, original)
		for _, key := range []string{key, legacy} {
			filtered := e.base
			filtered.Tag, filtered.Digest = key, ""
			catalog, err := e.open(ctx, filtered)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			e.base, e.key, e.original, e.catalog = filtered, key, original, catalog
			return err
		}
	}
	if err := e.failedThere(); err != nil {
		return err
	}
	return hint.New(fmt.Errorf("the archive has no catalog %s that was filtered as this entry asks", e.ask.Catalog),
		"mirror from it with the image set configuration that it was made with, or make an archive with this one")
}

// failedThere returns the error that the catalog failed with when the archive was made, nil if it did not.
func (e *entry) failedThere() error {
	for _, f := range e.lost() {
		if f.Image.Origin == e.ask.Catalog {
			return f.Cause
		}
	}
	return nil
}

// lost returns what the archive that is read is without of the catalog.
func (e *entry) lost() []plan.Failure {
	if e.Archive == nil || e.Lost == nil {
		return nil
	}
	return e.Lost(e.ask.Catalog)
}

// originals returns the digests that the original may have: the entry's own, the one that the
// archive has under its tag, or those of which it has documents.
func (e *entry) originals(ctx context.Context) ([]digest.Digest, error) {
	if e.ref.Digest != "" {
		return []digest.Digest{e.ref.Digest}, nil
	}
	source, err := e.Open(e.base)
	if err != nil {
		return nil, err
	}
	desc, _, err := source.Manifest(ctx, e.base.Ref())
	if err == nil {
		return []digest.Digest{desc.Digest}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	names, err := e.Archive.List(path.Join(root, e.name()))
	var all []digest.Digest
	for _, name := range names {
		if d := digest.NewDigestFromEncoded(digest.SHA256, name); image.CheckDigest(d) == nil {
			all = append(all, d)
		}
	}
	return all, err
}

// collect adds the images of the bundles that are wanted.
func (e *entry) collect(ctx context.Context, p *plan.Plan) (err error) {
	if err := e.parse(); err != nil {
		return err
	}
	if e.Held {
		return e.collectHeld(ctx, p)
	}
	if err := e.find(ctx); err != nil {
		return err
	}
	if err := e.read(ctx, &p.Warnings); err != nil {
		return err
	}
	if e.ofFiles() {
		p.Warnings = append(p.Warnings, fmt.Sprintf("%s: the image that is made of %s has no opm: OLM v1 reads it (ClusterCatalog), and OLM v0 cannot start it, but by a targetCatalogSourceTemplate with extractContent: else no CatalogSource is written", e.image.Reason, e.ask.Catalog))
	}
	if err := e.addImages(ctx, p); err != nil {
		return err
	}
	e.template(p)
	for _, f := range e.lost() {
		same := func(o plan.Failure) bool { return o.Image.Origin == f.Image.Origin && o.Error == f.Error }
		if f.Image.Reason = e.image.Reason; !slices.ContainsFunc(p.Failures, same) { // by another entry of the catalog
			p.Failures = append(p.Failures, f)
		}
	}
	return nil
}

// addImages adds the images of the bundles that are wanted.
func (e *entry) addImages(ctx context.Context, p *plan.Plan) error {
	selection, err := e.choose(p)
	if err != nil {
		return err
	}
	e.chosen = map[plan.Bundle]bool{}
	for _, b := range selection.Bundles {
		e.chosen[plan.Bundle{Catalog: e.ask.Catalog, Package: b.Package, Name: b.Name}] = true
	}
	if e.Archive == nil && !e.Held {
		e.starts, e.selected = selection.Starts(), offerOf(selection)
	}
	var related []operator.RelatedImage
	var warnings []operator.Warning
	err = e.again(ctx, &p.Warnings, func() (err error) {
		related, warnings, err = selection.Images(ctx, e.content)
		return err
	})
	if err != nil {
		return err
	}
	p.Warnings = append(p.Warnings, e.texts(append(selection.Warnings, warnings...))...)
	c := &collecting{entry: e, plan: p, images: map[string]*plan.Image{}}
	for _, r := range related {
		c.add(r)
	}
	return nil
}

// again calls f, which reads the files of the catalog, once more where those of the workspace are
// damaged and were extracted anew.
func (e *entry) again(ctx context.Context, warnings *[]string, f func() error) error {
	switch {
	case e.plain:
		return f()
	case e.Held:
		err := f()
		if errors.Is(err, operator.ErrChanged) {
			err = hint.New(err, "mirror with this workspace once more: the run reads the catalog anew")
		}
		return err
	}
	return e.catalog.again(ctx, e.path(), func(damage error) { e.damaged(warnings, damage) }, f)
}

// damaged warns of a file of the workspace that is made anew.
func (e *entry) damaged(warnings *[]string, damage error) {
	what := "was damaged"
	if errors.Is(damage, fs.ErrPermission) {
		what = "is of another user's run"
	}
	text := fmt.Sprintf("%s: catalog %s: what the workspace has of it %s and is made anew: %v", e.image.Reason, e.ask.Catalog, what, damage)
	if !slices.Contains(*warnings, text) {
		*warnings = append(*warnings, text)
	}
}

// choose selects what is wanted. A package that cannot be selected as it is asked for, or for which OLM
// would refuse the whole catalog, is a failure. What is in an archive, or at the registry, has been
// decided.
func (e *entry) choose(p *plan.Plan) (*operator.Selection, error) {
	c := chooser{index: e.index, strict: e.Archive == nil && !e.Held}
	selection, left, failed, err := c.choose(e.left)
	if err != nil {
		return nil, err
	}
	e.left = left
	for _, f := range failed {
		i := &plan.Image{Type: plan.OperatorCatalog, Origin: e.ask.Catalog + " package " + f.name, Reason: e.image.Reason}
		p.Failures = append(p.Failures, plan.Failed(i, f.err))
		e.failed = append(e.failed, f.name)
	}
	e.depend(p, selection)
	return selection, nil
}

// follows reports whether what bundles require is added: the run or the entry says so.
func (e *entry) follows() bool {
	return (e.Follow || e.ask.FollowDependencies) && e.Archive == nil && !e.whole()
}

// depend adds the packages that the bundles of a selection require, if that is asked for, and warns
// of requirements that are not met. The content of an archive was decided when that was made.
func (e *entry) depend(p *plan.Plan, s *operator.Selection) {
	if e.Archive != nil || e.Held || e.whole() {
		return
	}
	if e.follows() {
		for _, d := range s.Follow() {
			p.Warnings = append(p.Warnings, fmt.Sprintf("%s: catalog %s: added with its images: %s", e.image.Reason, e.ask.Catalog, d))
		}
	}
	for _, d := range s.Dependencies() {
		if d.Selected {
			continue
		}
		text := fmt.Sprintf("%s: catalog %s: %s", e.image.Reason, e.ask.Catalog, d)
		if d.Provider != nil && !e.follows() {
			text += "; --follow-dependencies adds it"
		}
		p.Warnings = append(p.Warnings, text)
	}
}
