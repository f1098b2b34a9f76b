package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/blang/semver/v4"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Release is a release at an appliance.
type Release struct {
	Repository string        // its repository there; "": it is not there
	Tag        string        // version and architecture, as 4.20.3-x86_64
	Digest     digest.Digest // of the payload; of a list with several architectures the list's
	Channel    string        // which led to it; "" if that is not known
}

// machines are the architectures in names of releases, with those in install-config.yaml.
var machines = map[string]string{
	"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x", "multi": "multi",
}

// version returns a release's version, and its architecture.
func (r Release) version() (v semver.Version, machine string, err error) {
	text, machine, _ := cutLast(r.Tag, "-")
	v, err = semver.Parse(text)
	if err == nil && machines[machine] == "" {
		err = fmt.Errorf("%s names no architecture", r.Tag)
	}
	return v, machine, err
}

// Spec returns the name by which oc reads the release.
func (r Release) Spec(registry string) string {
	switch {
	case r.Repository == "":
		return ""
	case r.Digest != "":
		return registry + "/" + r.Repository + "@" + r.Digest.String()
	}
	return registry + "/" + r.Repository + ":" + r.Tag
}

// Wish is which release a user asks for.
type Wish struct {
	Version string // as 4.20 or 4.20.3; empty: the newest
	Machine string // as in the names of releases; empty: the only one
	// Pulled reports that an upstream has the other releases.
	Pulled bool
}

// Choose returns the release to install, and its version. Of a minor version the newest is taken,
// releases before candidates. A release that need not be mirrored, and is not, has no repository.
func Choose(all []Release, w Wish) (Release, Version, error) {
	all = slices.DeleteFunc(slices.Clone(all), func(r Release) bool {
		_, _, err := r.version()
		return err != nil // it was mirrored by its digest, or by another program
	})
	version, machine := w.Version, w.Machine
	var want wanted
	if version != "" {
		var err error
		var arch string
		if want, arch, err = parseVersion(version); err != nil {
			return Release{}, Version{}, err
		}
		machine = cmp.Or(machine, arch)
	}
	if machine != "" && machines[machine] == "" {
		return Release{}, Version{}, hint.New(fmt.Errorf("--arch %q is not an architecture of releases", machine),
			"one of x86_64, aarch64, ppc64le, s390x and multi")
	}
	fitting := fit(all, want, version != "", machine)
	if len(fitting) == 0 {
		return absent(all, want, Wish{version, machine, w.Pulled})
	}
	newest := slices.MaxFunc(fitting, compareReleases)
	v, _, _ := newest.version()
	var machinesThere []string
	for _, r := range fitting {
		if other, m, _ := r.version(); other.EQ(v) && !slices.Contains(machinesThere, m) {
			machinesThere = append(machinesThere, m)
		}
	}
	if len(machinesThere) > 1 {
		slices.Sort(machinesThere)
		return Release{}, Version{}, hint.New(fmt.Errorf("%s is there for several architectures: %s", v, strings.Join(machinesThere, ", ")),
			"name one: --arch "+machinesThere[0])
	}
	return newest, versionOf(v), nil
}

// fit returns the releases that a user may mean.
func fit(all []Release, want wanted, named bool, machine string) (fitting []Release) {
	for _, r := range all {
		v, m, _ := r.version()
		if machine != "" && m != machine {
			continue
		}
		if named && (versionOf(v) != want.Version || want.exact != nil && !v.EQ(*want.exact)) {
			continue
		}
		fitting = append(fitting, r)
	}
	return fitting
}

// compareReleases orders releases before candidates, then by version. Of the same one in two
// repositories, below two prefixes, the first by name is the larger.
func compareReleases(a, b Release) int {
	v, _, _ := a.version()
	w, _, _ := b.version()
	if n := cmp.Compare(len(w.Pre), len(v.Pre)); len(v.Pre)*len(w.Pre) == 0 && n != 0 {
		return n
	}
	return cmp.Or(v.Compare(w), cmp.Compare(b.Repository, a.Repository))
}

// absent is the answer for a release that is not mirrored.
func absent(all []Release, want wanted, w Wish) (Release, Version, error) {
	if len(all) == 0 && w.Version == "" {
		return Release{}, Version{}, hint.New(errors.New("no release was mirrored into this appliance, and no version is named"),
			"name the version to install, such as --version 4.20, or mirror one first: appliance mirror -c imageset.yaml …")
	}
	if w.Version != "" && (len(all) == 0 || w.Pulled) {
		r := Release{}
		if want.exact != nil {
			r.Tag = want.exact.String() + "-" + cmp.Or(w.Machine, "x86_64")
		}
		return r, want.Version, nil
	}
	var there []string
	for _, r := range slices.SortedFunc(slices.Values(all), func(a, b Release) int {
		v, _, _ := a.version()
		w, _, _ := b.version()
		return cmp.Or(v.Compare(w), cmp.Compare(a.Tag, b.Tag))
	}) {
		there = append(there, r.Tag)
	}
	what := strings.TrimSpace("OpenShift " + w.Version)
	if w.Machine != "" {
		what += " for " + w.Machine
	}
	return Release{}, Version{}, hint.New(fmt.Errorf("%s was not mirrored into this appliance; there is: %s", what,
		strings.Join(slices.Compact(there), ", ")), "name one of those, or mirror the other first: appliance mirror -c imageset.yaml …")
}

func cutLast(s, sep string) (before, after string, found bool) {
	n := strings.LastIndex(s, sep)
	if n < 0 {
		return s, "", false
	}
	return s[:n], s[n+len(sep):], true
}

// IsRelease reports whether a tag is a version and an architecture, as those of releases are.
func IsRelease(tag string) bool {
	_, _, err := Release{Tag: tag}.version()
	return err == nil
}

// Architecture returns the architecture of a release by its tag, as images name it, "" for one of
// several or unknown.
func Architecture(machine string) string {
	if machine == "multi" {
		return ""
	}
	return machines[machine]
}

// Newest returns the version of the newest of some releases; ok is false if none has a version.
func Newest(all []Release) (newest Version, ok bool) {
	all = slices.DeleteFunc(slices.Clone(all), func(r Release) bool { return !IsRelease(r.Tag) })
	if len(all) == 0 {
		return Version{}, false
	}
	v, _, _ := slices.MaxFunc(all, compareReleases).version()
	return versionOf(v), true
}
