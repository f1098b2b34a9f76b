package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/blang/semver/v4"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// Updates are the bundles of a catalog that are newer than what was mirrored of their channels. Of a channel of which
// nothing was, they are what the image set asks for.
type Updates struct {
	Catalog string   `json:"catalog"`
	Bundles []Update `json:"bundles"` // by package and channel, the oldest first
}

// Update is a bundle of a channel that was not mirrored.
type Update struct {
	Package  string `json:"package"`
	Channel  string `json:"channel"`
	Bundle   string `json:"bundle"`
	Version  string `json:"version"`
	Replaces string `json:"replaces,omitempty"`
	Asked    bool   `json:"asked"` // by the image set as it is
}

// Updates returns what the catalogs have, of the packages and channels that the image set names, that is newer than what
// was mirrored. A catalog, or a package, that cannot be read or selected is an error, and does not stop the others.
func (c *Collector) Updates(ctx context.Context, mirrored func(plan.Bundle) bool) ([]Updates, error) {
	all := []Updates{}
	var errs []error
	for n := range c.Config.Mirror.Operators {
		e := c.entry(n)
		u, err := e.updates(ctx, mirrored)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("catalog %s: %w", e.ask.Catalog, err))
		}
		if u != nil {
			all = append(all, *u)
		}
	}
	return all, errors.Join(errs...)
}

// updates returns nil if there is an error that leaves nothing to list.
func (e *entry) updates(ctx context.Context, mirrored func(plan.Bundle) bool) (*Updates, error) {
	if err := e.parse(); err != nil {
		return nil, err
	}
	if err := e.find(ctx); err != nil {
		return nil, err
	}
	if err := e.read(ctx, new([]string)); err != nil {
		return nil, err
	}
	failed := &plan.Plan{}
	asked, err := e.choose(failed)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, f := range failed.Failures {
		errs = append(errs, errors.New(f.Error))
	}
	whole, err := e.index.Select(imageset.Operator{Catalog: e.ask.Catalog, Full: true}, nil)
	if err != nil {
		return nil, errors.Join(append(errs, err)...)
	}
	u := &updates{entry: e, mirrored: mirrored, asked: named(asked.Bundles), versions: map[[2]string]semver.Version{}}
	for _, b := range whole.Bundles {
		if v, err := semver.Parse(b.Version); err == nil {
			u.versions[[2]string{b.Package, b.Name}] = v
		}
	}
	found := &Updates{Catalog: e.ask.Catalog, Bundles: []Update{}}
	for _, p := range asked.Packages {
		for _, channel := range e.channels(whole, p.Name) {
			found.Bundles = append(found.Bundles, u.channel(p.Name, channel)...)
		}
	}
	return found, errors.Join(errs...)
}

// channels returns the channels of a package that the entry names: all, if it names none.
func (e *entry) channels(whole *operator.Selection, pkg string) (all []operator.Channel) {
	var named []imageset.PackageChannel
	for _, p := range e.ask.Packages {
		if p.Name == pkg {
			named = append(named, p.Channels...)
		}
	}
	for _, p := range whole.Packages {
		if p.Name != pkg {
			continue
		}
		for _, c := range p.Channels {
			if len(named) == 0 || slices.ContainsFunc(named, func(n imageset.PackageChannel) bool { return n.Name == c.Name }) {
				all = append(all, c)
			}
		}
	}
	return all
}

func named(bundles []operator.Bundle) map[[2]string]bool {
	all := map[[2]string]bool{}
	for _, b := range bundles {
		all[[2]string{b.Package, b.Name}] = true
	}
	return all
}

// updates finds those of one catalog.
type updates struct {
	*entry
	mirrored func(plan.Bundle) bool
	asked    map[[2]string]bool
	versions map[[2]string]semver.Version // of all bundles
}

func (u *updates) channel(pkg string, c operator.Channel) (all []Update) {
	var newest *semver.Version // that was mirrored
	has := func(e operator.Entry) bool {
		return u.mirrored(plan.Bundle{Catalog: u.ask.Catalog, Package: pkg, Name: e.Name})
	}
	for _, e := range c.Entries {
		if v, ok := u.versions[[2]string{pkg, e.Name}]; ok && has(e) && (newest == nil || v.GT(*newest)) {
			newest = &v
		}
	}
	for _, e := range c.Entries {
		v, ok := u.versions[[2]string{pkg, e.Name}]
		asked := u.asked[[2]string{pkg, e.Name}]
		if !ok || has(e) || newest == nil && !asked || newest != nil && v.LT(*newest) {
			continue
		}
		all = append(all, Update{Package: pkg, Channel: c.Name, Bundle: e.Name, Version: v.String(), Replaces: e.Replaces, Asked: asked})
	}
	slices.SortStableFunc(all, func(a, b Update) int {
		return u.versions[[2]string{pkg, a.Bundle}].Compare(u.versions[[2]string{pkg, b.Bundle}])
	})
	return all
}
