package ready

import (
	"errors"
	"fmt"
	"slices"

	"github.com/blang/semver/v4"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// ImageSet returns an ImageSetConfiguration that brings what a verdict lacks. A release is in it once, and
// whole: a run fetches of it what is missing.
func ImageSet(v api.Verdict) ([]byte, error) {
	if v.Answer != api.ReadyNo {
		return nil, errors.New("nothing is missing")
	}
	h := imageset.Held{Lacking: true}
	seen := map[api.Cure]bool{}
	for _, r := range v.Reasons {
		switch {
		case r.Cure == nil:
			h.Notes = append(h.Notes, fmt.Sprintf("no content cures this: %s: %s (%s)", r.Where, r.Text, r.Hint))
		case !seen[*r.Cure]:
			seen[*r.Cure] = true
			if err := bring(&h, *r.Cure); err != nil {
				return nil, err
			}
		}
	}
	if len(seen) == 0 {
		return nil, hint.New(errors.New("more content cures none of the reasons"), "appliance ready without --as-imageset lists them")
	}
	return imageset.Write(h), nil
}

// bring adds what is missing.
func bring(h *imageset.Held, c api.Cure) error {
	if c.Catalog != "" {
		at := slices.IndexFunc(h.Operators, func(o imageset.HeldOperator) bool { return o.Catalog == c.Catalog })
		if at < 0 {
			at = len(h.Operators)
			h.Operators = append(h.Operators, imageset.HeldOperator{Operator: imageset.Operator{Catalog: c.Catalog}})
		}
		p := imageset.Package{Name: c.Package}
		if c.PackageChannel != "" {
			p.Channels = []imageset.PackageChannel{{Name: c.PackageChannel, MinVersion: c.MinVersion}}
		}
		h.Operators[at].Packages = append(h.Operators[at].Packages, p)
	}
	h.Graph = h.Graph || c.Graph || c.From != "" // a cluster is offered nothing without it
	for _, text := range []string{c.Release, c.From} {
		if text == "" {
			continue
		}
		version, err := semver.Parse(text)
		if err != nil {
			return err
		}
		h.Releases = append(h.Releases, imageset.HeldRelease{Version: version, Architecture: c.Architecture, Channel: c.Channel})
	}
	return nil
}
