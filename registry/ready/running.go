package ready

import (
	"slices"
	"strings"

	"github.com/blang/semver/v4"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// runs returns the architecture of the release that the cluster runs, "" if it is not known.
func (j *judgement) runs() string {
	c := j.request.Cluster
	if c == nil {
		return ""
	}
	if c.Multi {
		return graphdata.Multi
	}
	for _, had := range c.Releases {
		_, d, _ := strings.Cut(had.Image, "@")
		n := slices.IndexFunc(j.known.Releases, func(r graphdata.Release) bool { return r.Digest == digest.Digest(d) })
		if had.Version == c.Version && n >= 0 {
			return j.known.Releases[n].Arch
		}
	}
	return ""
}

// sameArch reports whether a release is for the architecture of the one that the cluster runs: the cluster takes no update to
// another one. That it is not is a reason.
func (j *judgement) sameArch(to graphdata.Release) bool {
	arch := j.runs()
	if arch == "" || arch == to.Arch {
		return true
	}
	j.refuse(api.Reason{Code: "architecture-other", Where: to.Payload, Text: "it is for " + to.Arch + ", and the release that the cluster runs is for " + arch + ": the cluster takes no update to another architecture",
		Hint: "name the release without an architecture: --to " + to.Version.String()})
	return false
}

// conditions judges what the cluster has told of its own state.
func (j *judgement) conditions(hops []graphdata.Hop) {
	c := j.request.Cluster
	if c == nil {
		return
	}
	minor := slices.ContainsFunc(hops, func(h graphdata.Hop) bool {
		from, err := semver.Parse(h.From)
		to, err2 := semver.Parse(h.To)
		return err != nil || err2 != nil || from.Major != to.Major || from.Minor != to.Minor
	})
	if c.NotUpgradeable != "" && minor {
		j.refuse(api.Reason{Code: "cluster-not-upgradeable", Where: "clusterversion", Text: "the cluster refuses updates to another minor version: " + c.NotUpgradeable,
			Hint: "oc adm upgrade says what to do; then export the cluster again"})
	}
	if c.Failing != "" {
		j.risk(api.Reason{Code: "cluster-failing", Where: "clusterversion", Text: "the cluster is failing: " + c.Failing, Hint: "oc get clusteroperators; mend it before the update"})
	}
}
