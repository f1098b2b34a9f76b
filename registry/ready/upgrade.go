package ready

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/blang/semver/v4"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// route is the way of a cluster through the graph.
type route struct {
	channel string
	hops    []graphdata.Hop
	nodes   []graphdata.Node // of the channel
}

// risky returns how many updates of a route have risks.
func (r route) risky() (n int) {
	for _, h := range r.hops {
		if len(h.Risks) > 0 {
			n++
		}
	}
	return n
}

// compare orders routes: those of channels that are meant for it, with fewer risks, and shorter ones,
// first.
func (r route) compare(other route) int {
	return cmp.Or(cmp.Compare(rank(r.channel), rank(other.channel)), cmp.Compare(r.risky(), other.risky()),
		cmp.Compare(len(r.hops), len(other.hops)), strings.Compare(r.channel, other.channel))
}

func rank(channel string) int {
	kind, _, _ := strings.Cut(channel, "-")
	return slices.Index([]string{"candidate", "fast", "eus", "stable"}, kind) * -1
}

// upgrade judges the upgrade of a cluster to a release, by each release on its way.
func (j *judgement) upgrade(ctx context.Context, to graphdata.Release) error {
	if err := j.newer(to.Version); err != nil { // it may have been named by its digest
		return err
	}
	if !j.sameArch(to) {
		return nil
	}
	r, ok := j.route(*j.from, to)
	if !ok {
		return nil
	}
	j.conditions(r.hops)
	j.verdict.Channel = r.channel
	for _, h := range r.hops {
		j.verdict.Path = append(j.verdict.Path, api.Hop{From: h.From, To: h.To})
		for _, risk := range h.Risks {
			j.risk(conditional(h, risk))
		}
	}
	var minors []operator.Minor
	for _, h := range r.hops {
		n := slices.IndexFunc(r.nodes, func(n graphdata.Node) bool { return n.Version == h.To })
		_, d, _ := strings.Cut(r.nodes[n].Payload, "@")
		at := slices.IndexFunc(j.known.Releases, func(r graphdata.Release) bool { return r.Digest == digest.Digest(d) })
		if err := j.release(ctx, j.known.Releases[at]); err != nil {
			return err
		}
		v := j.known.Releases[at].Version
		if minor := (operator.Minor{Major: v.Major, Minor: v.Minor}); !slices.Contains(minors, minor) {
			minors = append(minors, minor)
		}
	}
	return j.operators(ctx, to, minors)
}

// route returns the best route of a cluster. That there is none is a reason.
func (j *judgement) route(from semver.Version, to graphdata.Release) (best route, ok bool) {
	g := j.known.Graph
	if g == nil {
		j.refuse(api.Reason{Code: "graph-absent", Where: j.Registry, Text: j.known.Why, Cure: &api.Cure{Graph: true},
			Hint: "mirror it with platform.graph: true, or appliance updates load FILE"})
		return best, false
	}
	for _, p := range j.known.Problems {
		if strings.HasPrefix(p.Where, "blocked-edges/") {
			j.risk(api.Reason{Code: "graph-problem", Where: p.Where, Text: "a risk of updates is not known: " + p.What, Hint: "bring newer graph data: appliance updates load FILE"})
		}
	}
	j.verdict.Basis.Graph = &api.JudgedImage{Image: j.known.Data, Digest: j.known.DataDigest}
	channels := g.ChannelsOf(to)
	if j.request.Channel != "" {
		channels = []string{j.request.Channel}
	}
	here := false
	for _, channel := range channels {
		answer := g.Answer(channel, to.Arch)
		one := route{channel: channel, nodes: answer.Nodes}
		here = here || slices.ContainsFunc(answer.Nodes, func(n graphdata.Node) bool { return n.Version == from.String() })
		var reached bool
		if one.hops, reached = answer.Routes(from.String())[to.Version.String()]; reached && (!ok || one.compare(best) < 0) {
			best, ok = one, true
		}
	}
	if !ok {
		j.refuse(j.noRoute(from, to, channels, here))
	}
	return best, ok
}

// noRoute is the reason that no route leads to a release.
func (j *judgement) noRoute(from semver.Version, to graphdata.Release, channels []string, here bool) api.Reason {
	in := "channel " + strings.Join(channels, ", ")
	if len(channels) == 0 {
		in = "any channel of the graph data"
	}
	cure := cureOf(to.Version, to.Arch, cmp.Or(j.request.Channel, j.usual(channels)))
	cure.From = from.String()
	held := slices.ContainsFunc(j.known.Releases, func(r graphdata.Release) bool { return r.Version.EQ(from) && r.Arch == to.Arch })
	if !held {
		return api.Reason{Code: "from-absent", Where: from.String(), Text: "the release that the cluster runs is not here for " + to.Arch + ": a cluster is offered no updates then", Hint: "mirror it with the way from it: appliance mirror, or --as-imageset", Cure: cure}
	}
	if !here {
		return api.Reason{Code: "path-absent", Where: in, Text: fmt.Sprintf("%s is not in it, and so %s is not offered to a cluster that runs it", from, to.Version),
			Hint: "appliance updates show lists the channels of each release: --channel; newer graph data may have it"}
	}
	return api.Reason{Code: "path-absent", Where: in, Text: fmt.Sprintf("no updates that are here lead from %s to %s in it", from, to.Version),
		Hint: "mirror the releases between them: appliance mirror, or --as-imageset; appliance updates show --channel CHANNEL --from " + from.String(), Cure: cure}
}

// usual returns the channel that is meant for a release, "" if it has none.
func (j *judgement) usual(channels []string) string {
	if len(channels) == 0 {
		return ""
	}
	return slices.MinFunc(channels, func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a, b)) })
}

// conditional is the risk of an update in words.
func conditional(h graphdata.Hop, risk graphdata.Risk) api.Reason {
	who := "every cluster"
	if !slices.ContainsFunc(risk.Rules, func(r graphdata.Rule) bool { return r.Type == "Always" }) {
		who = "clusters for which its query is true, which the cluster itself finds out"
	}
	return api.Reason{Code: "conditional-update", Where: h.From + " → " + h.To, Text: fmt.Sprintf("%s: %s (it is about %s)", risk.Name, risk.Message, who),
		Hint: "read " + risk.URL + "; oc adm upgrade --include-not-recommended shows whether it is about the cluster"}
}
