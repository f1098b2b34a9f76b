package mirror

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// blocked reports whether the origin or the destination of an image matches blockedImages.
func (e *engine) blocked() (func(*plan.Image) bool, error) {
	var all []*regexp.Regexp
	for _, b := range e.o.Config.Mirror.BlockedImages {
		re, err := regexp.Compile(b.Name)
		if err != nil {
			return nil, fmt.Errorf("blocked image %q: %w", b.Name, err)
		}
		all = append(all, re)
	}
	return func(i *plan.Image) bool {
		return slices.ContainsFunc(all, func(re *regexp.Regexp) bool {
			return re.MatchString(i.Reference.String()) || re.MatchString(e.destination(i))
		})
	}, nil
}

// apart returns the images that are not blocked, and those that are.
func apart(images []*plan.Image, blocked func(*plan.Image) bool) (left, out []*plan.Image) {
	left = []*plan.Image{} // an empty list is one in JSON too
	for _, i := range images {
		if blocked(i) {
			out = append(out, i)
		} else {
			left = append(left, i)
		}
	}
	return left, out
}

// warnOfBlocked adds warnings of what is incomplete since images are blocked. As with oc-mirror it is
// mirrored: an image that is blocked is left out on purpose, and one of many may not be needed.
func (e *engine) warnOfBlocked(p *plan.Plan) {
	type operator struct{ catalog, name string }
	bundles, images := map[operator][]string{}, map[operator][]string{}
	releases := map[string][]string{}
	for _, i := range p.Blocked {
		if i.Type.Class().Whole && i.Release != "" {
			releases[i.Release] = append(releases[i.Release], i.Origin)
		}
		if i.Type == plan.OperatorCatalog {
			p.Warnings = append(p.Warnings, fmt.Sprintf("catalog %s is blocked: images of its bundles are mirrored, and no catalog offers them", i.Origin))
		}
		for _, b := range i.Bundles {
			of := operator{b.Catalog, b.Package}
			bundles[of], images[of] = append(bundles[of], b.Name), append(images[of], i.Origin)
		}
	}
	var warnings []string
	for release, of := range releases {
		warnings = append(warnings, fmt.Sprintf("release %s is mirrored without images that blockedImages blocks (%s): a cluster may not be able to install it", release, blockedNames(of)))
	}
	for of := range bundles {
		warnings = append(warnings, fmt.Sprintf("catalog %s: bundle %s of operator %s is mirrored without images that blockedImages blocks (%s): a cluster may not be able to install it",
			of.catalog, blockedNames(bundles[of]), of.name, blockedNames(images[of])))
	}
	p.Warnings = append(p.Warnings, slices.Sorted(slices.Values(warnings))...)
}

// blockedNames names some of many, each once.
func blockedNames(all []string) string {
	const listed = 5
	return plain.List(slices.Compact(slices.Sorted(slices.Values(all))), listed)
}
