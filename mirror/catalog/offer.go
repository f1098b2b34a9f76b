package catalog

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// Offer is what a catalog offers to clusters, by package.
type Offer map[string]Offered

// Offered are the names of a package's channels and bundles.
type Offered struct {
	Channels []string `json:"channels"`
	Bundles  []string `json:"bundles"`
}

func offerOf(s *operator.Selection) Offer {
	all := Offer{}
	for _, p := range s.Packages {
		var of Offered
		for _, c := range p.Channels {
			of.Channels = append(of.Channels, c.Name)
		}
		all[p.Name] = of
	}
	for _, b := range s.Bundles {
		of := all[b.Package]
		of.Bundles = append(of.Bundles, b.Name)
		all[b.Package] = of
	}
	return all
}

// Offer returns what the catalog in an image that was built offers, nil if the image is another.
func (c *Collector) Offer(image *plan.Image) Offer {
	for _, e := range c.entries {
		if e.image == image && e.built {
			return e.offer
		}
	}
	return nil
}

// stays returns an error if the catalog that was published before is to stay: the one of this run
// would be without what that has, and only since something failed. What the image set does not ask
// for any more, and what the vendor's catalog does not have any more, is not missed. It does not stay
// for a bundle of which an image is not at the destination either.
func (e *entry) stays(ctx context.Context, now Offer) error {
	if e.Before == nil || e.tag() == "" || len(e.failed) == 0 && !e.lacking.of(e.ask.Catalog) {
		return nil
	}
	at := e.Repository(e.repository()) + ":" + e.tag()
	before := e.Before(ctx, at)
	for b, images := range e.lacking {
		gone := func(i *plan.Image) bool { return !e.There(ctx, i) }
		if b.Catalog == e.ask.Catalog && slices.Contains(before[b.Package].Bundles, b.Name) && slices.ContainsFunc(images, gone) {
			return nil
		}
	}
	selection, err := e.index.Select(e.left, nil)
	if err != nil {
		return err
	}
	if e.follows() {
		selection.Follow()
	}
	wanted := offerOf(selection)
	for _, name := range e.failed {
		wanted[name] = before[name]
	}
	lost := before.lost(wanted, now)
	if len(lost) == 0 {
		return nil
	}
	const listed = 3
	return hint.New(fmt.Errorf("the catalog that was published before stays at %s, since it has %s, which failed in this run", at, plain.List(lost, listed)),
		"mend what failed and run it again; what is to go from the catalog, leave out of the image set")
}

// lost names what an offer has of what is wanted, and another one has not.
func (o Offer) lost(wanted, now Offer) (all []string) {
	for _, pkg := range slices.Sorted(maps.Keys(o)) {
		want, asked := wanted[pkg]
		have, there := now[pkg]
		if asked && !there {
			all = append(all, "package "+pkg)
		}
		if !asked || !there {
			continue
		}
		miss := func(kind string, was, want, have []string) {
			for _, name := range was {
				if slices.Contains(want, name) && !slices.Contains(have, name) {
					all = append(all, fmt.Sprintf("%s %s of package %s", kind, name, pkg))
				}
			}
		}
		miss("channel", o[pkg].Channels, want.Channels, have.Channels)
		miss("bundle", o[pkg].Bundles, want.Bundles, have.Bundles)
	}
	return all
}
