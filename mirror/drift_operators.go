package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// operators compares the catalogs, and what is asked for of them.
func (c *offlineDrift) operators(ctx context.Context) error {
	for n, o := range c.o.Config.Mirror.Operators {
		if err := c.operator(ctx, o, c.o.Config.At(fmt.Sprintf("mirror.operators[%d]", n))); err != nil {
			return err
		}
	}
	return nil
}

func (c *offlineDrift) operator(ctx context.Context, o imageset.Operator, why string) error {
	i := &plan.Image{Type: plan.OperatorCatalog, Origin: o.Catalog, Reason: why, Platforms: o.Platforms}
	ref, err := o.Reference()
	if err != nil {
		c.drift.Failed = append(c.drift.Failed, plan.Failed(i, err))
		return nil
	}
	i.Reference = ref
	i.Repository, i.Tag = o.Destination(ref)
	i.Repository = c.repository(i.Repository)
	if i.Tag == "" { // it is made of the digest of what was built
		i.Tag = c.builtTag(i)
	}
	if !c.ask(i) {
		return nil
	}
	there, err := c.compare(ctx, i)
	if err != nil || !there {
		return err
	}
	content, err := c.held.Catalog(Place{Repository: i.Repository, Reference: i.Tag})
	if failed := (*CatalogError)(nil); errors.As(err, &failed) {
		c.undecided(o.Catalog, "the catalog here cannot be read: %s", failed)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read catalog %s: %w", c.destination(i), err)
	}
	for _, p := range o.Packages {
		c.pkg(i, p, content)
	}
	return nil
}

// builtTag returns the tag of the catalog that was made of one that is named by digest.
func (c *offlineDrift) builtTag(i *plan.Image) string {
	for at, known := range c.recorded {
		tag, here := strings.CutPrefix(at, c.o.Registry+"/"+i.Repository+":")
		if here && slices.ContainsFunc(known, func(m mirroredImage) bool { return m.Type == i.Type && m.Origin == i.Origin }) {
			return tag
		}
	}
	return imageset.Reference{Digest: i.Reference.Digest}.DestinationTag()
}

// pkg compares a package that is asked for with that of a catalog here.
func (c *offlineDrift) pkg(i *plan.Image, p imageset.Package, content *catalog.Content) {
	item := "package " + p.Name + " of " + i.Origin
	n := slices.IndexFunc(content.Packages, func(held catalog.Package) bool { return held.Name == p.Name })
	if n < 0 {
		c.lack(i, item)
		return
	}
	held, all := content.Packages[n], []string{}
	for _, channel := range held.Channels {
		all = append(all, channel.Versions...)
	}
	c.versions(i, item, p.MinVersion, p.MaxVersion, all)
	for _, asked := range p.Channels {
		n := slices.IndexFunc(held.Channels, func(held catalog.Channel) bool { return held.Name == asked.Name })
		if n < 0 {
			c.lack(i, "channel "+asked.Name+" of "+item)
			continue
		}
		c.versions(i, "channel "+asked.Name+" of "+item, asked.MinVersion, asked.MaxVersion, held.Channels[n].Versions)
	}
}

// versions compares the bounds of a package or a channel with the versions that are here.
func (c *offlineDrift) versions(i *plan.Image, item, low, high string, held []string) {
	outside := func(v string) bool {
		return low != "" && catalog.CompareVersions(v, low) < 0 || high != "" && catalog.CompareVersions(v, high) > 0
	}
	within := slices.DeleteFunc(slices.Clone(held), outside)
	if len(within) == 0 {
		c.lack(i, fmt.Sprintf("versions of %s from %q to %q", item, low, high))
		return
	}
	for _, bound := range []string{low, high} {
		if bound != "" && !slices.ContainsFunc(held, func(v string) bool { return catalog.CompareVersions(v, bound) == 0 }) {
			c.undecided(item, "version %s, which is asked for, is not in the catalog here; whether its source has it is not known", bound)
		}
	}
}

// lack notes what the catalog here does not have.
func (c *offlineDrift) lack(i *plan.Image, item string) {
	c.drift.Missing = append(c.drift.Missing, Drifted{Type: i.Type, Origin: item, Destination: c.destination(i)})
}
