package mirror

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

func (e *engine) newCatalogs() *catalog.Collector {
	c := &catalog.Collector{
		Config: e.o.Config, Dir: e.workspace.path(""), ToArchive: e.o.ToArchive, Follow: e.o.FollowDependencies, Repository: e.repository,
		Pinned: e.pinnedCatalogs,
		V1:     e.o.Config.V1 && !e.o.ToArchive, // archives are those of version 2
		Open:   func(ref imageset.Reference) (catalog.Source, error) { return e.sources.source(ref) },
	}
	if e.v1 != nil {
		c.OfV1, c.Placed = append([]catalog.OfV1{}, e.o.ArchiveV1.Catalogs...), func(pulled string) *plan.Image { return e.v1.named[pulled] }
	}
	if !e.o.ToArchive {
		c.Before, c.There = e.offered, e.stillThere
	}
	if e.o.Documents != nil {
		c.Archive = e.o.Documents
		if from, ok := e.o.Documents.(interface {
			Lost(catalog string) []plan.Failure
		}); ok {
			c.Lost = from.Lost
		}
	}
	return c
}

// heldCatalogs collects from what the runs of the workspace have read, with the tags of version 1 or
// of version 2.
func (e *engine) heldCatalogs(v1 bool) *catalog.Collector {
	return &catalog.Collector{Config: e.o.Config, Dir: e.workspace.path(""), Held: true, V1: v1, Repository: e.repository}
}

// buildCatalogs adds the operator catalogs to a plan, once it is known which images can be read.
func (e *engine) buildCatalogs(ctx context.Context, p *plan.Plan, blocked func(*plan.Image) bool) error {
	all, err := e.catalogs.Build(ctx, p)
	if err != nil {
		return err
	}
	errs := map[*plan.Image]error{}
	var images []*plan.Image
	for _, made := range all {
		if blocked(made.Image) {
			p.Blocked = append(p.Blocked, made.Image)
			continue
		}
		if err := e.read(ctx, made); err != nil {
			errs[made.Image] = err
		}
		images = append(images, made.Image)
	}
	p.Images = append(p.Images, images...)
	separate(p, errs)
	p.Images = e.dedupe(p.Images)
	e.collisions(p)
	return ctx.Err()
}

// read reads the manifests of a catalog.
func (e *engine) read(ctx context.Context, made catalog.Made) error {
	if made.Source != nil {
		e.sources.add(made.Image.Reference, made.Source)
	}
	return e.sources.Read(ctx, made.Image)
}

// amendCatalogs makes those catalogs again that have bundles of which an image has failed.
func (x *execution) amendCatalogs(ctx context.Context, p *plan.Plan, copied []*plan.Image) {
	var failed []*plan.Image
	for _, i := range copied {
		if x.failure(i) != nil {
			failed = append(failed, i)
		}
	}
	if len(failed) == 0 || ctx.Err() != nil {
		return
	}
	all, errs := x.catalogs.Amend(ctx, p, failed)
	for image, err := range errs {
		x.fail(image, err)
		x.o.Events(Event{Kind: Failed, Image: image, Err: err})
	}
	for _, made := range all {
		made.Image.Attachments = nil // of the catalog as it was
		if err := x.read(ctx, made); err != nil {
			x.fail(made.Image, err)
		}
	}
}

// bundleNames returns the bundles that need an image, and their operators.
func bundleNames(i *plan.Image) (names, packages []string) {
	for _, b := range i.Bundles {
		names = append(names, b.Name)
		if !slices.Contains(packages, b.Package) {
			packages = append(packages, b.Package)
		}
	}
	return names, packages
}

// bundles returns the cost of a failed image for the operators that need it.
func bundles(i *plan.Image) string {
	names, packages := bundleNames(i)
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("bundle %s of operator %s, which the catalog is without", strings.Join(names, ", "), strings.Join(packages, ", "))
}

// putOriginals puts the names of filtered catalogs' originals into an archive: oc-mirror finds the
// digest of a catalog by its tag there.
func (x *execution) putOriginals(ctx context.Context) error {
	if !x.o.ToArchive {
		return nil
	}
	all, err := x.catalogs.Originals(ctx, func(i *plan.Image) bool { return x.failure(i) != nil })
	if err != nil {
		return err
	}
	for _, o := range all {
		err := x.dst.PutManifest(ctx, o.Repository, o.Descriptor, o.Body)
		if err == nil {
			err = x.dst.Tag(ctx, map[string]map[string]digest.Digest{o.Repository: {o.Tag: o.Descriptor.Digest}})
		}
		if err != nil {
			return fmt.Errorf("name catalog %s:%s: %w", o.Repository, o.Tag, err)
		}
	}
	return nil
}
