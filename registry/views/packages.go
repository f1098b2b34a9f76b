package views

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
)

// counting bounds the time in which a page looks for images that are absent.
const counting = 2 * time.Second

// absence finds out which images are absent. What it has found stays true until the store changes.
type absence struct {
	changed <-chan struct{}

	mu      sync.Mutex // held while it looks
	present *mirror.Present
}

// look calls f with what finds out which images are absent, and with a context for as long as it may look.
func (a *absence) look(ctx context.Context, v *Views, f func(ctx context.Context, present *mirror.Present) error) (err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-a.changed:
		a.present = nil
	default:
	}
	if a.present == nil {
		if a.present, err = v.present(ctx); err != nil {
			return err
		}
	}
	ctx, end := context.WithTimeout(ctx, counting)
	defer end()
	return f(ctx, a.present)
}

// Packages lists a part of the packages of a catalog. That the catalog cannot be read is in the answer.
func (v *Views) Packages(ctx context.Context, q api.PackagesRequest) (api.CatalogPackages, error) {
	page := api.CatalogPackages{Packages: []api.CatalogPackage{}}
	of, d, err := v.listing(ctx, q.Place)
	page.Digest = d
	if is := (*unreadable)(nil); errors.As(err, &is) {
		page.Error, page.Hint = is.Error(), hint.Of(is)
		return page, nil
	}
	if err != nil {
		return page, err
	}
	chosen := choose(&page, of, q.Page)
	err = v.absence.look(ctx, v, func(ctx context.Context, present *mirror.Present) error {
		for _, p := range chosen {
			one := packageOf(p)
			if one.Lacking, err = count(ctx, present, p.Offer); err != nil {
				return err
			}
			page.Packages = append(page.Packages, one)
		}
		return nil
	})
	return page, err
}

// choose counts what a catalog offers in a page, and returns the packages of which that is.
func choose(page *api.CatalogPackages, of *catalog.Listing, q api.Page) (chosen []catalog.ListedPackage) {
	page.Count = len(of.Packages)
	for _, p := range of.Packages {
		page.Bundles += len(p.Offer.Bundles)
		if p.Name > q.After && (contains(p.Name, q.Search) || contains(p.DisplayName, q.Search)) {
			chosen = append(chosen, p)
		}
	}
	n := min(len(chosen), limit(q.Limit))
	page.More = n < len(chosen)
	return chosen[:n]
}

// contains reports whether a text has a part, in any case.
func contains(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

func limit(n int) int {
	if n == 0 {
		return api.PageUsual
	}
	return n
}

// Package returns a package of a catalog, with a part of the bundles in a channel. That the catalog
// cannot be read is in the answer.
func (v *Views) Package(ctx context.Context, q api.PackageRequest) (api.CatalogBundles, error) {
	page := api.CatalogBundles{Listed: []api.CatalogBundle{}}
	of, _, err := v.listing(ctx, q.Place)
	if is := (*unreadable)(nil); errors.As(err, &is) {
		page.Error, page.Hint = is.Error(), hint.Of(is)
		return page, nil
	}
	if err != nil {
		return page, err
	}
	at := slices.IndexFunc(of.Packages, func(p catalog.ListedPackage) bool { return p.Name == q.Package })
	if at < 0 {
		return page, &store.NotFoundError{Kind: "operator", Name: image.Quote(q.Package)}
	}
	p := of.Packages[at]
	page.CatalogPackage = packageOf(p)
	chosen, err := channelOf(p, q.Channel)
	if err != nil {
		return page, err
	}
	page.Channel = chosen.Name
	all := newestFirst(chosen, p.Offer)
	if n := slices.IndexFunc(all, func(e operator.Entry) bool { return e.Name == q.After }); n >= 0 {
		all = all[n+1:]
	}
	n := min(len(all), limit(q.Limit))
	page.More = n < len(all)
	err = v.absence.look(ctx, v, func(ctx context.Context, present *mirror.Present) error {
		for _, e := range all[:n] {
			one := bundleOf(e, p.Offer)
			if one.Lacking, one.Counted, err = lacking(ctx, present, p.Offer.Bundles[e.Name]); err != nil {
				return err
			}
			page.Listed = append(page.Listed, one)
		}
		page.Lacking, err = count(ctx, present, p.Offer)
		return err
	})
	return page, err
}

// channelOf returns a channel of a package, without a name the default one.
func channelOf(p catalog.ListedPackage, name string) (operator.Channel, error) {
	named := func(name string) int {
		return slices.IndexFunc(p.Offer.Channels, func(c operator.Channel) bool { return c.Name == name })
	}
	n := named(cmp.Or(name, p.DefaultChannel))
	switch {
	case n >= 0:
		return p.Offer.Channels[n], nil
	case name == "" && len(p.Offer.Channels) > 0: // the default channel is one that the catalog lacks
		return p.Offer.Channels[0], nil
	case name == "":
		return operator.Channel{}, nil
	}
	return operator.Channel{}, &store.NotFoundError{Kind: "channel", Name: image.Quote(name)}
}

// newestFirst returns the entries of a channel, those without a version last.
func newestFirst(c operator.Channel, of *operator.Offer) []operator.Entry {
	all := slices.Clone(c.Entries)
	slices.SortStableFunc(all, func(a, b operator.Entry) int {
		return cmp.Or(catalog.CompareVersions(of.Bundles[b.Name].Version, of.Bundles[a.Name].Version), cmp.Compare(b.Name, a.Name))
	})
	return all
}

func packageOf(p catalog.ListedPackage) api.CatalogPackage {
	one := api.CatalogPackage{Name: p.Name, DisplayName: p.DisplayName, DefaultChannel: p.DefaultChannel, Channels: []api.CatalogChannel{},
		Bundles: len(p.Offer.Bundles), Deprecated: deprecated(p.Offer, "olm.package", "")}
	for _, c := range p.Channels {
		one.Channels = append(one.Channels, api.CatalogChannel{Name: c.Name, Head: c.Head, Versions: append([]string{}, c.Versions...),
			Deprecated: deprecated(p.Offer, "olm.channel", c.Name)})
	}
	return one
}

func bundleOf(e operator.Entry, of *operator.Offer) api.CatalogBundle {
	b := of.Bundles[e.Name]
	return api.CatalogBundle{Name: e.Name, Version: b.Version, Replaces: e.Replaces, SkipRange: e.SkipRange, Skips: e.Skips,
		Images: len(b.Images), Deprecated: deprecated(of, "olm.bundle", e.Name)}
}

// deprecated returns what a catalog says of a package, a channel or a bundle that is deprecated.
func deprecated(of *operator.Offer, schema, name string) string {
	for _, d := range of.Deprecations {
		if d.Schema == schema && d.Name == name {
			return d.Message
		}
	}
	return ""
}

// lacking returns what a bundle lacks, and whether there was the time to look.
func lacking(ctx context.Context, present *mirror.Present, b operator.OfferedBundle) (all []api.Lack, known bool, err error) {
	absent, err := present.Lacking(ctx, b.Images)
	if ctx.Err() != nil {
		return nil, false, nil
	}
	for _, name := range b.Images {
		if reason, is := absent[name]; is {
			all = append(all, api.Lack{Image: name, Reason: reason})
		}
	}
	if b.Fault != "" && len(all) == 0 {
		all = append(all, api.Lack{Reason: b.Fault})
	}
	return all, true, err
}

// count counts the bundles that lack something, nil if there was no time to look at all of them.
func count(ctx context.Context, present *mirror.Present, of *operator.Offer) (*int, error) {
	n := 0
	for _, b := range of.Bundles {
		lacks, known, err := lacking(ctx, present, b)
		if err != nil || !known {
			return nil, err
		}
		if len(lacks) > 0 {
			n++
		}
	}
	return &n, nil
}
