package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// Drift is how an image set and a registry differ.
type Drift struct {
	Asked   int            `json:"asked"` // images of the image set
	Missing []Drifted      `json:"missing"`
	Changed []Drifted      `json:"changed"` // tags that name another image at the source now
	Unasked []Drifted      `json:"unasked"` // mirrored from the workspace, and no longer asked for; unknown with failures
	Failed  []plan.Failure `json:"failures"`
	Bytes   int64          `json:"bytes"` // that a run would copy; of FindDriftOffline 0
	// Undecided is what FindDriftOffline could not find out.
	Undecided []Undecided `json:"undecided,omitempty"`
	// Offline reports that no source was asked.
	Offline bool `json:"offline,omitempty"`
	// Warnings are those of the plan, such as of a package that its catalog does not have.
	Warnings []string `json:"warnings,omitempty"`

	Plan *plan.Plan `json:"-"` // that was compared

	images []*plan.Image // of Unasked
}

// Drifted is an image of a Drift.
type Drifted struct {
	Type        plan.Type     `json:"type"`
	Origin      string        `json:"origin"`
	Destination string        `json:"destination"`
	Digest      digest.Digest `json:"digest"`        // that is asked for; of what is not, the one that was mirrored
	Was         digest.Digest `json:"was,omitempty"` // of Changed: the one at the destination
}

// Differs reports whether a run, or a prune, would change anything.
func (d *Drift) Differs() bool { return len(d.Missing)+len(d.Changed)+len(d.Unasked) > 0 }

// FindDrift plans an image set as DryRun does, and compares it with the destination and with what
// the workspace has mirrored there. Nothing is written but what a plan is made of. An image that
// cannot be planned is a failure, and what it would ask for is not known.
func FindDrift(ctx context.Context, o Options, at Pruner) (*Drift, error) {
	e, unlock, err := newLocked(o)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return e.drift(ctx, at)
}

func (e *engine) drift(ctx context.Context, at Pruner) (*Drift, error) {
	p, lacks, err := e.dryRun(ctx)
	if err != nil {
		return nil, err
	}
	d := &Drift{Asked: len(p.Images), Missing: []Drifted{}, Changed: []Drifted{}, Unasked: []Drifted{},
		Failed: p.Failures, Bytes: p.Missing, Warnings: p.Warnings, Plan: p}
	for _, i := range p.Images {
		now := Drifted{Type: i.Type, Origin: i.Origin, Destination: e.destination(i), Digest: i.Digest}
		// By digest nothing changes, but the tag of a catalog that is made here may be gone, or be another's.
		if lacks[i] || i.Reference.Digest == "" || i.Type == plan.OperatorCatalog {
			switch now.Was, err = tagged(ctx, at, i); {
			case err != nil:
				return nil, fmt.Errorf("%s: %w", now.Destination, err)
			case now.Was == "":
				d.Missing = append(d.Missing, now)
			case now.Was != i.Digest:
				d.Changed = append(d.Changed, now)
			case lacks[i]:
				d.Missing = append(d.Missing, now)
			}
		}
	}
	if len(d.Failed) > 0 { // what those ask for would be among what is not asked for
		return d, nil
	}
	return d, e.findUnasked(ctx, at, p, d)
}

// tagged returns what the tag of an image names at the destination, "" if it does not exist.
func tagged(ctx context.Context, at Pruner, i *plan.Image) (digest.Digest, error) {
	desc, _, err := at.Manifest(ctx, i.Repository, i.Tag)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return desc.Digest, err
}

// findUnasked adds what is no longer asked for. What is there under one tag and asked for under another that is not
// there is asked for: the next run gives it that tag.
func (e *engine) findUnasked(ctx context.Context, at Pruner, p *plan.Plan, d *Drift) (err error) {
	if d.images, err = e.unasked(ctx, at, p); err != nil {
		return err
	}
	asked := map[place]*plan.Image{}
	for _, i := range p.Images {
		asked[place{i.Repository, i.Digest}] = i
	}
	var errs []error
	d.images = slices.DeleteFunc(d.images, func(i *plan.Image) bool {
		by := asked[place{i.Repository, i.Digest}]
		if by == nil {
			return false
		}
		has, err := tagged(ctx, at, by)
		errs = append(errs, err)
		return has != i.Digest
	})
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, i := range d.images {
		d.Unasked = append(d.Unasked, Drifted{Type: i.Type, Origin: i.Origin, Destination: e.destination(i), Digest: i.Digest})
	}
	return nil
}

// PlanPrune lists what the workspace has mirrored and no image set of it asks for any more, for
// Delete. An image that cannot be planned, or is missing, is an error: what is there would go before
// what replaces it comes.
func PlanPrune(ctx context.Context, o Options, at Pruner, list DeleteList) (*Deletion, error) {
	e, unlock, err := newLocked(o)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := e.checkPrune(); err != nil {
		return nil, err
	}
	drift, err := e.drift(ctx, at)
	switch {
	case err != nil:
		return nil, err
	case len(drift.Failed) > 0:
		f := drift.Failed[0]
		return nil, hint.New(fmt.Errorf("nothing is listed, since %d images of the image set cannot be planned: %s: %s", len(drift.Failed), f.Image.Origin, f.Error),
			"mend that first: what the image set asks for is not known without them")
	case len(drift.Missing)+len(drift.Changed) > 0:
		return nil, hint.New(fmt.Errorf("nothing is listed, since %d images of the image set are not at the destination yet", len(drift.Missing)+len(drift.Changed)),
			"run appliance mirror first, so that what replaces the images is there")
	}
	if err := e.checkAbsent(); err != nil {
		return nil, err
	}
	rest, warnings, err := e.unneeded(ctx, at, drift.images, list.Force)
	if err == nil && !list.Force {
		var moved []*plan.Image
		rest, moved, err = e.unmoved(ctx, at, rest)
		for _, i := range moved {
			warnings = append(warnings, fmt.Sprintf("%s stays: %s needs it", e.named(i), pushedOver))
		}
	}
	if err != nil {
		return nil, err
	}
	d := &Deletion{Items: items(e, rest), Failures: []plan.Failure{}, Warnings: append(drift.Warnings, warnings...)}
	if len(d.Items) == 0 {
		return d, nil
	}
	if err := e.preview(ctx, &plan.Plan{Images: rest}, at, d); err != nil {
		return nil, err
	}
	d.File, err = e.writeList(d.Items, list.ID)
	return d, err
}
