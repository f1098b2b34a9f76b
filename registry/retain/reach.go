package retain

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/blang/semver/v4"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/updates"
)

// reach is which releases the attached clusters can reach, and which stay since that is not known.
type reach struct {
	updates.Known
	byDigest map[digest.Digest]graphdata.Release
	clusters []api.PruneCluster
	restored time.Time // of the store, from a backup
	// stays has the reasons that releases stay, by version and architecture; an empty one stands for each.
	stays  map[[2]string]string
	minors map[string]bool // that clusters have, or can come to

	// A fleet has few channels, architectures and versions: what was found out is kept by them.
	routes  map[[3]string][]string          // versions that are reached
	detours map[[3]string]map[string]string // see beyond
	graphs  map[[2]string]graphdata.Answer  // by channel and architecture
}

func newReach(known updates.Known, restored time.Time) *reach {
	r := &reach{Known: known, restored: restored, byDigest: map[digest.Digest]graphdata.Release{}, stays: map[[2]string]string{}, minors: map[string]bool{},
		routes: map[[3]string][]string{}, detours: map[[3]string]map[string]string{}, graphs: map[[2]string]graphdata.Answer{}}
	for _, one := range known.Releases {
		r.byDigest[one.Digest] = one
	}
	return r
}

// stay has releases stay, for the first reason that there is.
func (r *reach) stay(version, arch, reason string) {
	if key := [2]string{version, arch}; r.stays[key] == "" {
		r.stays[key] = reason
	}
}

// reason returns the reason that a release stays, "" if there is none.
func (r *reach) reason(of graphdata.Release) string {
	for _, key := range [][2]string{{bare(of.Version), of.Arch}, {bare(of.Version), ""}, {"", of.Arch}, {"", ""}} {
		if r.stays[key] != "" {
			return r.stays[key]
		}
	}
	return ""
}

// bare returns a version as answers have it.
func bare(v semver.Version) string {
	v.Build = nil
	return v.String()
}

// minor returns the minor version, such as 4.18, of a version.
func minor(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// add adds what a cluster can reach from the version that it runs, and from that it is updated to. If it is not known, all
// releases for its architecture stay.
func (r *reach) add(c store.Cluster, f state.Facts) {
	one := api.PruneCluster{ID: c.ID, Name: c.Name, Version: f.Version, Channel: f.Channel, Told: c.Updated, Architectures: []string{}, Reaches: []string{}}
	reached := map[string]bool{}
	if c.Updated.Before(r.restored) {
		one.Problem = fmt.Sprintf("it has told of itself before the backup was restored on %s, and may run another release: attach it anew", r.restored.Format(time.DateOnly))
		r.stay("", "", fmt.Sprintf("it is not known what cluster %s can reach: %s", c, one.Problem))
	}
	for _, had := range f.Releases {
		r.minors[minor(had.Version)] = true
		if ref, err := imageset.ParseReference(had.Image); err != nil || ref.Digest == "" {
			r.stay(had.Version, "", fmt.Sprintf("cluster %s has had a release of this version, and has not named it by digest", c))
		}
	}
	for _, from := range []string{f.Version, f.Updating} {
		if from == "" {
			continue
		}
		r.minors[minor(from)] = true
		for _, arch := range r.architectures(f, from) {
			all, problem := r.from(f.Channel, arch, from)
			if problem != "" {
				one.Problem = problem
				r.stay("", arch, fmt.Sprintf("it is not known what cluster %s can reach: %s", c, problem))
			}
			for _, version := range all {
				reached[version] = true
				r.minors[minor(version)] = true
				r.stay(version, arch, fmt.Sprintf("cluster %s can reach it in channel %s", c, f.Channel))
			}
			for version, by := range r.beyond(f.Channel, arch, from) {
				r.minors[minor(version)], r.minors[minor(by)] = true, true
				r.stay(version, arch, fmt.Sprintf("cluster %s may come to it in channel %s by %s, which is not here", c, f.Channel, by))
			}
			if arch != "" && !slices.Contains(one.Architectures, arch) {
				one.Architectures = append(one.Architectures, arch)
			}
		}
	}
	one.Reaches = slices.SortedFunc(maps.Keys(reached), compareVersions)
	r.clusters = append(r.clusters, one)
}

func compareVersions(a, b string) int {
	v, err := semver.Parse(a)
	w, err2 := semver.Parse(b)
	if err != nil || err2 != nil {
		return strings.Compare(a, b)
	}
	return v.Compare(w)
}

// architectures returns those of the releases of a cluster that have a version, or, since those are not here, of
// its others; "" stands for one that is not known.
func (r *reach) architectures(f state.Facts, version string) []string {
	these, others := map[string]bool{}, map[string]bool{}
	for _, had := range f.Releases {
		ref, err := imageset.ParseReference(had.Image)
		if err != nil {
			continue
		}
		if here, ok := r.byDigest[ref.Digest]; ok {
			others[here.Arch] = true
			if had.Version == version {
				these[here.Arch] = true
			}
		}
	}
	switch {
	case len(these) > 0:
		return slices.Sorted(maps.Keys(these))
	case f.Multi:
		return []string{graphdata.Multi}
	case len(others) > 0:
		return slices.Sorted(maps.Keys(others))
	}
	return []string{""}
}

// from returns the versions that can be reached, or the reason that they are not known.
func (r *reach) from(channel, arch, version string) (all []string, problem string) {
	switch {
	case arch == "":
		return nil, "none of its releases is here, so that its architecture is not known"
	case r.Graph == nil:
		return nil, r.Why
	case channel == "":
		return nil, "it has no channel"
	}
	key := [3]string{channel, arch, version}
	if all, ok := r.routes[key]; ok {
		return all, ""
	}
	answer, ok := r.graphs[[2]string{channel, arch}]
	if !ok {
		answer = r.Graph.Answer(channel, arch)
		r.graphs[[2]string{channel, arch}] = answer
	}
	if len(answer.Nodes) == 0 {
		return nil, fmt.Sprintf("the graph data has no channel %s with a release for %s that is here", channel, arch)
	}
	for v := range answer.Routes(version) {
		all = append(all, v)
	}
	if len(all) == 0 {
		return nil, fmt.Sprintf("%s is not in channel %s, or not here", version, channel)
	}
	r.routes[key] = all
	return all, ""
}

// beyond returns the versions that a cluster may come to by a version that is not here, with that:
// which updates lead to it is not known.
func (r *reach) beyond(channel, arch, version string) map[string]string {
	key := [3]string{channel, arch, version}
	all, ok := r.detours[key]
	if ok {
		return all
	}
	all = map[string]string{}
	r.detours[key] = all
	from, err := semver.Parse(version)
	if r.Graph == nil || err != nil {
		return all
	}
	for _, to := range r.Releases {
		if to.Arch != arch || !to.Version.GT(from) || !r.Graph.Lists(channel, to.Version, arch) || all[bare(to.Version)] != "" {
			continue
		}
		n := slices.IndexFunc(to.Previous, func(v semver.Version) bool {
			return v.GT(from) && r.Graph.Lists(channel, v, arch) &&
				!slices.ContainsFunc(r.Releases, func(here graphdata.Release) bool { return here.Arch == arch && here.Version.Equals(v) })
		})
		if n < 0 {
			continue
		}
		reached, _ := r.from(channel, arch, bare(to.Version))
		all[bare(to.Version)] = bare(to.Previous[n])
		for _, v := range reached {
			all[v] = bare(to.Previous[n])
		}
	}
	return all
}

// unknown reports whether it is not known of a cluster what it can reach.
func (r *reach) unknown() bool {
	return slices.ContainsFunc(r.clusters, func(c api.PruneCluster) bool { return c.Problem != "" })
}
