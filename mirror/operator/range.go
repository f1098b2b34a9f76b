package operator

import (
	"fmt"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// bounds is the range of versions that is asked for of a channel. The zero bounds mean its head.
type bounds struct {
	min, max string
	within   *semver.Constraints
	from     *semver.Version // of a channel of which only the head is asked for: what an earlier run began with

	bundle string // that min is the version of; "" if it was given as a version
	absent bool   // the channel does not have the bundle, and another one has
}

// newBounds reads bounds as people write them: 4.12, v1.2.0 and 1 are versions too.
func newBounds(least, most string) (bounds, error) {
	b := bounds{min: least, max: most}
	for _, v := range []string{least, most} {
		if v == "" {
			continue
		}
		// A bound is one version; NewConstraint would take "1.x || 3" as well.
		if _, err := semver.NewVersion(v); err != nil {
			return b, fmt.Errorf("%q is not a version: %w", v, err)
		}
	}
	if b.none() || b.exact() {
		return b, nil
	}
	var err error
	b.within, err = semver.NewConstraint(b.String())
	return b, err
}

func (b bounds) none() bool { return b.min == "" && b.max == "" && b.from == nil }

// exact reports whether one version is asked for. The texts decide: 1.2.0 and v1.2.0 are a range.
func (b bounds) exact() bool { return b.min != "" && b.min == b.max }

// has reports whether a version is in the range. Build metadata is not compared, and pre-releases
// are in it only if one of the bounds is one, or if the range begins with what an earlier run began
// with: the head is to be in it, whatever its version.
func (b bounds) has(v *semver.Version) bool {
	if b.from != nil {
		return v != nil && !v.LessThan(b.from)
	}
	return v != nil && b.within != nil && b.within.Check(v)
}

// String returns the range as oc-mirror writes it.
func (b bounds) String() string {
	var parts []string
	if b.min != "" {
		parts = append(parts, ">="+b.min)
	}
	if b.max != "" {
		parts = append(parts, "<="+b.max)
	}
	if b.from != nil {
		parts = append(parts, ">="+b.from.Original())
	}
	return strings.Join(parts, " ")
}
