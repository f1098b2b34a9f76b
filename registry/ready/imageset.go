package ready

import (
	"errors"
	"fmt"

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
			version, err := semver.Parse(r.Cure.Release)
			if err != nil {
				return nil, err
			}
			h.Releases = append(h.Releases, imageset.HeldRelease{Version: version, Architecture: r.Cure.Architecture, Channel: r.Cure.Channel})
		}
	}
	if len(seen) == 0 {
		return nil, hint.New(errors.New("more content cures none of the reasons"), "appliance ready without --as-imageset lists them")
	}
	return imageset.Write(h), nil
}
