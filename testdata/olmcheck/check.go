// Package olmcheck compares mirror/operator with the libraries that oc-mirror and opm are made of:
// what oc-mirror's filter leaves of a catalog, and whether opm takes what ours leaves. It compares
// mirror/signature with the library that CRI-O judges signatures by. It is a module of its own, so that their 181 modules stay out of the product's.
package olmcheck

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"testing/fstest"

	"github.com/operator-framework/operator-registry/alpha/declcfg"
	"github.com/operator-framework/operator-registry/pkg/lib/config"
	filter "github.com/sherine-k/catalog-filter/pkg/filter/mirror-config/v1alpha1"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
)

// oc returns what oc-mirror leaves of a catalog.
func oc(ctx context.Context, files fs.FS, ask imageset.Operator) (*declcfg.DeclarativeConfig, error) {
	catalog, err := declcfg.LoadFS(ctx, files)
	if err != nil {
		return nil, err
	}
	if ask.Full && len(ask.Packages) == 0 {
		return catalog, nil
	}
	c := filter.FilterConfiguration{}
	c.Kind, c.APIVersion = "FilterConfiguration", "olm.operatorframework.io/filter/mirror/v1alpha1"
	for _, p := range ask.Packages {
		to := filter.Package{Name: p.Name, DefaultChannel: p.DefaultChannel, VersionRange: versionRange(p.MinVersion, p.MaxVersion)}
		for _, ch := range p.Channels {
			to.Channels = append(to.Channels, filter.Channel{Name: ch.Name, VersionRange: versionRange(ch.MinVersion, ch.MaxVersion)})
		}
		for _, b := range p.Bundles {
			to.SelectedBundles = append(to.SelectedBundles, filter.SelectedBundle{Name: b.Name})
		}
		c.Packages = append(c.Packages, to)
	}
	if err := c.Validate(); err != nil && len(ask.Packages) > 0 {
		return nil, err
	}
	return filter.NewMirrorFilter(c, filter.InFull(ask.Full)).FilterCatalog(ctx, catalog)
}

func versionRange(least, most string) string {
	switch {
	case least != "" && most != "":
		return ">=" + least + " <=" + most
	case least != "":
		return ">=" + least
	case most != "":
		return "<=" + most
	}
	return ""
}

// ours returns the files that mirror/operator leaves of a catalog.
func ours(ctx context.Context, files fs.FS, ask imageset.Operator, lacks func(pkg, bundle string) bool) (fstest.MapFS, *operator.Selection, error) {
	x, err := operator.Scan(ctx, files)
	if err != nil {
		return nil, nil, err
	}
	s, err := x.Select(ask, lacks)
	if err != nil {
		return nil, nil, err
	}
	out, err := written(ctx, s, files)
	return out, s, err
}

// summary is the catalog as text, for comparison: what a filter decides, in one order.
func summary(c *declcfg.DeclarativeConfig) string {
	type blob struct{ Kind, Package, Name, Rest string }
	var all []blob
	add := func(kind, pkg, name string, rest any) {
		text, _ := json.Marshal(rest)
		all = append(all, blob{kind, pkg, name, string(text)})
	}
	for _, p := range c.Packages {
		add("package", p.Name, "", p.DefaultChannel)
	}
	for _, ch := range c.Channels {
		add("channel", ch.Package, ch.Name, ch.Entries)
	}
	for _, b := range c.Bundles {
		add("bundle", b.Package, b.Name, b.RelatedImages)
	}
	for _, d := range c.Deprecations {
		for _, e := range d.Entries {
			add("deprecation", d.Package, e.Reference.Schema+" "+e.Reference.Name, e.Message)
		}
	}
	for _, o := range c.Others {
		add("other", o.Package, o.Schema+" "+o.Name, nil)
	}
	slices.SortFunc(all, func(a, b blob) int {
		return cmp.Or(cmp.Compare(a.Package, b.Package), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Rest, b.Rest))
	})
	text := ""
	for _, b := range all {
		text += fmt.Sprintln(b.Package, b.Kind, b.Name, b.Rest)
	}
	return text
}

// opmTakes is what opm validate does.
func opmTakes(ctx context.Context, files fs.FS) error { return config.Validate(ctx, files) }

// modelTakes is the same, for a catalog that is in memory.
func modelTakes(c *declcfg.DeclarativeConfig) error {
	_, err := declcfg.ConvertToModel(*c)
	return err
}
