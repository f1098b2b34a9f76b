package catalog

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/rebuild"
)

// Documents are those of an archive, by their names in working-dir.
type Documents interface {
	List(dir string) ([]string, error)
}

// Collector collects operator catalogs. Its methods are called one after the other.
type Collector struct {
	Config *imageset.Config
	// Open opens the source of the repository that a reference names.
	Open func(imageset.Reference) (Source, error)
	// Dir is the working-dir of the workspace, which has the content of catalogs, by their digests.
	Dir string
	// Archive has the documents of the archive that is mirrored from; nil: none is. In it a filtered
	// catalog is an image of its own, and no original is needed.
	Archive Documents
	// Lost returns what the archive is without of a catalog; nil: that is not known.
	Lost func(catalog string) []plan.Failure
	// Held reads what earlier runs have left in the workspace, and no source: Collect adds what of
	// that the configuration means, whole catalogs too.
	Held bool
	// Pinned returns the digests of further catalogs that stay in the workspace; nil: there are none.
	Pinned func() []digest.Digest
	// Follow adds the packages that bundles require, also where an entry does not ask for it.
	Follow bool
	// V1 gives images that are named by digest alone the tags that oc-mirror v1 gives them.
	V1 bool
	// OfV1 are the catalogs of an archive of version 1, which are published all, whatever the configuration asks
	// for; nil: what is read is another archive, or none.
	OfV1 []OfV1
	// Placed returns the image that an archive of version 1 has, or one before it had, for a reference. nil: none.
	Placed func(pulled string) *plan.Image
	// ToArchive names catalogs as an archive has them.
	ToArchive bool
	// Before returns what the catalog at a repository:tag of the destination offers, as far as that is
	// known; nil: nothing is.
	Before func(ctx context.Context, at string) Offer
	// There reports whether the destination has an image that failed, from an earlier run.
	There func(context.Context, *plan.Image) bool
	// Repository returns the destination of a repository, below the prefix of the run.
	Repository func(name string) string

	entries []*entry
	lacking lacking
}

// Starts returns what the catalogs begin with, by their unique names: see imageset.Operator. Those of an
// archive have been decided when it was made.
func (c *Collector) Starts() map[string]map[string]map[string]string {
	all := map[string]map[string]map[string]string{}
	for _, e := range c.entries {
		if e.starts != nil {
			all[e.ask.UniqueName()] = e.starts
		}
	}
	return all
}

// Pins returns the names of the catalogs by the digests that they had, by their unique names. One on this host
// is named as the entry has it.
func (c *Collector) Pins() map[string]string {
	all := map[string]string{}
	for _, e := range c.entries {
		all[e.ask.UniqueName()] = e.ask.Catalog
		if !e.local() {
			all[e.ask.UniqueName()] = e.ref.Name() + "@" + e.original.String()
		}
	}
	return all
}

// Places returns the destinations of the catalogs, as repository:tag, by the names that the entries have. The
// tag of one is empty that is made of a digest.
func (c *Collector) Places() map[string]string {
	all := map[string]string{}
	for _, e := range c.entries {
		if all[e.ask.Catalog] == "" {
			all[e.ask.Catalog] = c.Repository(e.repository()) + ":" + e.tag()
		}
	}
	return all
}

// Absent returns the packages and channels that are asked for and that the catalogs do not have, which is a
// warning of the plan.
func (c *Collector) Absent() (all []string) {
	for _, e := range c.entries {
		for _, p := range e.ask.Packages {
			of, there := e.selected[p.Name]
			switch {
			case e.selected == nil:
			case !there:
				all = append(all, e.ask.Catalog+" package "+p.Name)
			default:
				for _, channel := range p.Channels {
					if !slices.Contains(of.Channels, channel.Name) {
						all = append(all, e.ask.Catalog+" package "+p.Name+" channel "+channel.Name)
					}
				}
			}
		}
	}
	return all
}

// Made is the image of a catalog, and where it is read. Of an image that is copied as it is the
// source is nil.
type Made struct {
	Image  *plan.Image
	Source *rebuild.Image
}

// Collect adds the images of the bundles that the configuration asks for. A catalog that cannot be
// read, or not filtered as it is asked for, is a failure of the plan and does not stop the others.
func (c *Collector) Collect(ctx context.Context, p *plan.Plan) error {
	c.entries = nil
	for _, e := range c.all() {
		err := e.collect(ctx, p)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			e.discardDamaged(ctx)
			p.Failures = append(p.Failures, plan.Failed(e.image, err))
			continue
		}
		c.entries = append(c.entries, e)
	}
	return nil
}

// Build makes the catalogs without the bundles that have an image among the failures of the plan,
// and takes what only those have out of the plan. A catalog that cannot be made is a failure of it,
// and so is one that gives way to the one that was published before.
func (c *Collector) Build(ctx context.Context, p *plan.Plan) ([]Made, error) {
	c.lacking = lacking{}
	for _, f := range p.Failures {
		c.lacking.add(f.Image)
	}
	c.lacking.drop(p)
	var all []Made
	for _, e := range c.entries {
		made, err := e.build(ctx, &p.Warnings)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			e.discardDamaged(ctx)
			p.Failures = append(p.Failures, plan.Failed(e.image, err))
			continue
		}
		all = append(all, made)
	}
	return all, nil
}

// Amend makes the catalogs again that have bundles with one of some images, which failed. It changes
// their images in the plan. errs are the reasons that some cannot be made.
func (c *Collector) Amend(ctx context.Context, p *plan.Plan, failed []*plan.Image) (all []Made, errs map[*plan.Image]error) {
	errs = map[*plan.Image]error{}
	concerned := lacking{}
	for _, i := range failed {
		concerned.add(i)
		c.lacking.add(i)
	}
	for _, e := range c.entries {
		if !concerned.of(e.ask.Catalog) || !e.built {
			continue
		}
		made, err := e.build(ctx, &p.Warnings)
		if err != nil {
			errs[e.image] = err
			continue
		}
		all = append(all, made)
	}
	return all, errs
}

// lacking are the bundles of which an image is not there, with those images.
type lacking map[plan.Bundle][]*plan.Image

func (l lacking) add(i *plan.Image) {
	for _, b := range i.Bundles {
		l[b] = append(l[b], i)
	}
}

// of reports whether bundles of a catalog are among them.
func (l lacking) of(catalog string) bool { return len(l.bundles(catalog)) > 0 }

// bundles returns those of a catalog.
func (l lacking) bundles(catalog string) []operator.Bundle {
	var all []operator.Bundle
	for b := range l {
		if b.Catalog == catalog {
			all = append(all, operator.Bundle{Package: b.Package, Name: b.Name})
		}
	}
	return all
}

// drop takes the images out of a plan that only such bundles have.
func (l lacking) drop(p *plan.Plan) {
	p.Images = slices.DeleteFunc(p.Images, func(i *plan.Image) bool {
		if i.Type != plan.OperatorBundle && i.Type != plan.OperatorRelated {
			return false
		}
		return !slices.ContainsFunc(i.Bundles, func(b plan.Bundle) bool { return l[b] == nil })
	})
}
