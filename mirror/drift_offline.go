package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/blang/semver/v4"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/updategraph"
)

// Undecided is a part of an image set of which it is not known, without its sources, whether the registry
// has it as it is asked for.
type Undecided struct {
	Item   string `json:"item"`
	Reason string `json:"reason"`
}

// Held is what a registry has, for FindDriftOffline.
type Held struct {
	Origins []Origin
	Catalog ReadCatalog
	// Channel returns what the graph data of the registry says of a channel of releases, for an
	// architecture.
	Channel func(ctx context.Context, name, arch string) (HeldChannel, error)
}

// HeldChannel is a channel of releases.
type HeldChannel struct {
	Why    string             // nothing is known of it
	Listed []semver.Version   // of the graph data, whether the registry has the releases or not
	Graph  *updategraph.Graph // of those that it has
}

// FindDriftOffline is FindDrift where no source can be asked: what the image set asks for is compared with
// what the registry has, by what the runs recorded, its graph data and its catalogs. What these do not
// decide is Undecided, such as whether a tag names another image at its source by now. Whether the images
// are whole, with all that they need, is not looked at.
func FindDriftOffline(ctx context.Context, o Options, at Pruner, held Held) (*Drift, error) {
	e, unlock, err := newLocked(o)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if o.Config.V1 {
		return nil, hint.New(errors.New("an image set of version 1 cannot be compared without its sources"),
			"write one of version 2, such as appliance imageset from-store does, or compare it where there is internet")
	}
	if err := e.recall(); err != nil {
		return nil, err
	}
	c := &offlineDrift{engine: e, held: held, at: at, recorded: mirrored{}, ranges: map[string]versions{},
		drift: &Drift{Missing: []Drifted{}, Changed: []Drifted{}, Unasked: []Drifted{}, Failed: []plan.Failure{}, Warnings: slices.Clone(o.Config.Warnings), Offline: true}}
	if c.blocked, err = e.blocked(); err != nil {
		return nil, err
	}
	for _, o := range held.Origins {
		i, err := o.image()
		if err != nil {
			return nil, err
		}
		at := e.o.Registry + "/" + o.Repository + ":" + o.Tag
		c.recorded[at] = append(c.recorded[at], i)
	}
	for at, images := range e.mirroredBefore() { // the registry forgets what was pushed over
		c.recorded[at] = append(c.recorded[at], images...)
	}
	for _, compare := range []func(context.Context) error{c.releases, c.graphImage, c.operators, c.additional, c.charts, c.unasked} {
		if err := compare(ctx); err != nil {
			return nil, err
		}
	}
	return c.drift, nil
}

// offlineDrift compares one image set.
type offlineDrift struct {
	*engine
	held     Held
	at       Pruner
	blocked  func(*plan.Image) bool
	recorded mirrored // by the registry's runs, then by the workspace's
	drift    *Drift
	asked    plan.Plan           // the images that are asked for, as far as they are known
	ranges   map[string]versions // of releases, by architecture
	open     bool                // not all releases that are asked for are known
}

func (c *offlineDrift) undecided(item, format string, args ...any) {
	c.drift.Undecided = append(c.drift.Undecided, Undecided{item, fmt.Sprintf(format, args...)})
}

// ask notes an image that is asked for, unless it is blocked.
func (c *offlineDrift) ask(i *plan.Image) bool {
	if c.blocked(i) {
		return false
	}
	c.drift.Asked++
	c.asked.Images = append(c.asked.Images, i)
	return true
}

// compare compares an image that is asked for with what its tag names, and reports whether it is there.
func (c *offlineDrift) compare(ctx context.Context, i *plan.Image) (there bool, err error) {
	now := Drifted{Type: i.Type, Origin: i.Origin, Destination: c.destination(i)}
	if now.Was, err = tagged(ctx, c.at, i); err != nil {
		return false, fmt.Errorf("%s: %w", now.Destination, err)
	}
	known := c.recorded[now.Destination]
	n := slices.IndexFunc(known, func(m mirroredImage) bool { return m.Origin == i.Origin })
	byDigest := i.Reference.Digest != ""
	switch {
	case now.Was == "":
		now.Digest = i.Reference.Digest
		c.drift.Missing = append(c.drift.Missing, now)
		return false, nil
	case byDigest && now.Was == i.Reference.Digest:
	case n < 0 && byDigest && i.Type != plan.OperatorCatalog:
		now.Digest = i.Reference.Digest
		c.drift.Changed = append(c.drift.Changed, now)
		return false, nil
	case n < 0:
		c.undecided(i.Origin, "no run recorded that %s is a mirror of it", now.Destination)
		return false, nil
	case known[n].Digest != now.Was:
		now.Digest = known[n].Digest
		c.drift.Changed = append(c.drift.Changed, now)
		return false, nil
	case !byDigest:
		c.undecided(i.Origin, "it is here as it was mirrored; whether its source has another image by now is not known here")
	}
	i.Digest = now.Was
	return true, nil
}

// graphImage compares the image with graph data.
func (c *offlineDrift) graphImage(ctx context.Context) error {
	i := (&graphImage{c.engine}).image()
	if i == nil || !c.ask(i) {
		return nil
	}
	_, err := c.compare(ctx, i)
	return err
}

// additional compares the additional images.
func (c *offlineDrift) additional(ctx context.Context) error {
	var p plan.Plan
	if err := (&additional{config: c.o.Config, repository: c.repository}).Collect(ctx, &p); err != nil {
		return err
	}
	c.drift.Failed = append(c.drift.Failed, p.Failures...)
	c.drift.Warnings = append(c.drift.Warnings, p.Warnings...)
	for _, i := range p.Images {
		if c.ask(i) {
			if _, err := c.compare(ctx, i); err != nil {
				return err
			}
		}
	}
	return nil
}

// charts says that charts are not compared.
func (c *offlineDrift) charts(context.Context) error {
	const why = "which images a chart needs is found out at its source"
	for _, r := range c.o.Config.Mirror.Helm.Repositories {
		c.undecided("charts of "+imageset.Shown(r.URL), why)
	}
	for _, chart := range c.o.Config.Mirror.Helm.Local {
		c.undecided("chart "+chart.Path, why)
	}
	return nil
}

// unasked finds what is no longer asked for. What belongs to a release or a bundle follows that, and is not
// listed.
func (c *offlineDrift) unasked(ctx context.Context) error {
	if len(c.drift.Failed) > 0 {
		return nil
	}
	if err := c.findUnasked(ctx, c.at, &c.asked, c.drift); err != nil {
		return err
	}
	catalogs := map[string]bool{}
	for _, o := range c.o.Config.Mirror.Operators {
		catalogs[o.Catalog] = true
	}
	all := slices.Clone(c.drift.images)
	c.drift.Unasked = slices.DeleteFunc(c.drift.Unasked, func(d Drifted) bool {
		switch d.Type {
		case plan.Generic, plan.Graph:
			return false
		case plan.OperatorCatalog: // one by digest has a tag of its own each time
			return catalogs[d.Origin]
		case plan.Release:
			n := slices.IndexFunc(all, func(i *plan.Image) bool { return c.destination(i) == d.Destination })
			return n < 0 || c.mayBeAsked(all[n].Tag)
		}
		return true
	})
	return nil
}
