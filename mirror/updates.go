package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/release"
)

// Updates are what the sources of an image set have that is newer than what the runs of its workspace have mirrored.
type Updates struct {
	Channels []release.Updates `json:"channels"`
	Catalogs []catalog.Updates `json:"catalogs"`
}

// FindUpdates asks the update graph and reads the catalogs. No image is read, and nothing is written but what a plan is
// made of. With updates, an error names the channels, catalogs and packages that could not be resolved; without, no run
// of the workspace is known, or the workspace cannot be read.
func FindUpdates(ctx context.Context, o Options) (*Updates, error) {
	e, unlock, err := newLocked(o)
	if err != nil {
		return nil, err
	}
	defer unlock()
	past, err := e.reported()
	if err != nil {
		return nil, err
	}
	if err := e.recall(); err != nil {
		return nil, err
	}
	u := &Updates{}
	var releases, bundles error
	u.Channels, releases = e.releases().Updates(ctx, func(name string) bool { return past.releases[name] })
	u.Catalogs, bundles = e.catalogs.Updates(ctx, func(b plan.Bundle) bool { return past.bundles[b] })
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return u, errors.Join(releases, bundles)
}

// reported is what the reports of a workspace have, to registries and into archives.
type reported struct {
	releases map[string]bool
	bundles  map[plan.Bundle]bool
}

func (e *engine) reported() (*reported, error) {
	past, err := History(e.workspace.dir)
	if err != nil {
		return nil, err
	}
	if len(past) == 0 {
		return nil, hint.New(fmt.Errorf("no run of the workspace %s is known, so that it is not known what would be new", e.workspace.dir),
			"name the workspace of the runs, or the directory of their archives: --workspace file://DIR")
	}
	all := &reported{map[string]bool{}, map[plan.Bundle]bool{}}
	for _, p := range past { // the oldest first
		var r struct {
			Mirrored []*plan.Image
			Failures []plan.Failure
		}
		raw, err := e.workspace.Read("logs/" + p.name)
		if err == nil {
			err = json.Unmarshal(raw, &r)
		}
		if err != nil {
			return nil, fmt.Errorf("report %s: %w", p.File, err)
		}
		for _, i := range r.Mirrored {
			all.add(i)
		}
		for _, f := range r.Failures {
			for _, b := range f.Image.Bundles {
				delete(all.bundles, b)
			}
		}
	}
	return all, nil
}

func (r *reported) add(i *plan.Image) {
	if i.Type == plan.Release {
		r.releases[i.Release] = true
	}
	for _, b := range i.Bundles {
		r.bundles[b] = true
	}
}
