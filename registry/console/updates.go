package console

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/blang/semver/v4"

	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

const updatesPath = "/updates"

// updatesPage has what clusters are offered: the channels, and the releases that are here.
type updatesPage struct {
	listed
	Updates  api.Updates
	Channels []heldChannel
	Releases []api.UpdateRelease // a part of them, the newest first
	From, To int
}

// heldChannel is a channel of which releases are here.
type heldChannel struct {
	Name, Newest string
	Releases     int
	Archs        []string
}

func (v *visit) updates() error {
	u, err := v.c.api.Updates(v.r.Context(), api.UpdatesRequest{})
	if err != nil {
		return err
	}
	p := updatesPage{Updates: u, Channels: channelsOf(u.Releases)}
	all := u.Releases
	slices.SortStableFunc(all, func(a, b api.UpdateRelease) int { return compareVersions(b.Version, a.Version) })
	p.Releases, p.From, p.To, p.listed = part(v, all, rows, updatesPath)
	return v.show("updates", "updates", "updates.title", p)
}

// part returns the part of a list that the address asks for, n long, which of all these are, and where the others are.
func part[T any](v *visit, all []T, n int, path string, pairs ...string) (some []T, from, to int, l listed) {
	after := min(v.after(), len(all))
	some = all[after:min(after+n, len(all))]
	from, to = after+1, after+len(some)
	if after > 0 {
		l.First = address(path, pairs...)
	}
	if to < len(all) {
		l.Next = address(path, append(slices.Clone(pairs), "after", strconv.Itoa(to))...)
	}
	return some, from, to, l
}

// channelsOf returns the channels of releases, those of the newest minor versions first.
func channelsOf(releases []api.UpdateRelease) (all []heldChannel) {
	at := map[string]int{}
	versions := map[string]map[string]bool{}
	for _, r := range releases {
		for _, name := range r.Channels {
			i, ok := at[name]
			if !ok {
				i = len(all)
				at[name], versions[name] = i, map[string]bool{}
				all = append(all, heldChannel{Name: name})
			}
			c := &all[i]
			versions[name][r.Version] = true
			c.Releases = len(versions[name])
			if c.Newest == "" || compareVersions(r.Version, c.Newest) > 0 {
				c.Newest = r.Version
			}
			if !slices.Contains(c.Archs, r.Arch) {
				c.Archs = append(c.Archs, r.Arch)
			}
		}
	}
	for _, c := range all {
		slices.Sort(c.Archs)
	}
	slices.SortFunc(all, compareChannels)
	return all
}

func channelNames(all []heldChannel) (names []string) {
	for _, c := range all {
		names = append(names, c.Name)
	}
	return names
}

// always reports whether a risk applies to each cluster: the first rule that a cluster can evaluate counts.
func always(r graphdata.Risk) bool { return len(r.Rules) == 0 || r.Rules[0].Type == "Always" }

// compareChannels orders channels: the newest minor version first, stable ones before others.
func compareChannels(a, b heldChannel) int {
	rank := func(name string) int { return slices.Index([]string{"candidate", "fast", "eus", "stable"}, name) }
	kind, minor, _ := strings.Cut(a.Name, "-")
	other, minor2, _ := strings.Cut(b.Name, "-")
	return cmp.Or(compareVersions(minor2+".0", minor+".0"), cmp.Compare(rank(other), rank(kind)), strings.Compare(a.Name, b.Name))
}

// compareVersions orders versions; what is none comes first.
func compareVersions(a, b string) int {
	v, err := semver.Parse(a)
	w, err2 := semver.Parse(b)
	switch {
	case err == nil && err2 == nil:
		return v.Compare(w)
	case err != nil && err2 != nil:
		return strings.Compare(a, b)
	case err != nil:
		return -1
	}
	return 1
}
