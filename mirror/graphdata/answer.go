package graphdata

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/blang/semver/v4"
)

// Answer is what an update service answers for a channel and an architecture.
type Answer struct {
	Version     int           `json:"version"` // of the format, always 1
	Nodes       []Node        `json:"nodes"`   // by version, which no two of them share
	Edges       [][2]int      `json:"edges"`   // from, to: indexes of Nodes
	Conditional []Conditional `json:"conditionalEdges"`
}

// Node is a release of an Answer.
type Node struct {
	Version  string            `json:"version"`
	Payload  string            `json:"payload"`
	Metadata map[string]string `json:"metadata"`
}

// Conditional is a group of updates that have the same risks. An update is in one group at most, and
// not in Edges then.
type Conditional struct {
	Edges []Update `json:"edges"`
	Risks []Risk   `json:"risks"`
}

// Update is an update by versions.
type Update struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Risk is a reason for which an update is not recommended to the clusters that match one of Rules.
type Risk struct {
	URL     string `json:"url"`
	Name    string `json:"name"`
	Message string `json:"message"`
	Rules   []Rule `json:"matchingRules"` // the first that a cluster can evaluate counts
}

// Rule selects clusters: each one, or those for which a query is true.
type Rule struct {
	Type   string `json:"type"` // Always or PromQL
	PromQL Query  `json:"promql,omitzero"`
}

// Query is a PromQL expression, which the cluster evaluates.
type Query struct {
	PromQL string `json:"promql"`
}

func (r Risk) compare(other Risk) int {
	return cmp.Or(strings.Compare(r.Name, other.Name), strings.Compare(r.URL, other.URL), strings.Compare(r.Message, other.Message),
		slices.CompareFunc(r.Rules, other.Rules, func(a, b Rule) int {
			return cmp.Or(strings.Compare(a.Type, b.Type), strings.Compare(a.PromQL.PromQL, b.PromQL.PromQL))
		}))
}

// Answer returns the answer for a channel and an architecture, such as amd64 or Multi. One that is
// not known has an answer without releases.
func (g *Graph) Answer(channel, arch string) Answer {
	a := Answer{Version: 1, Nodes: []Node{}, Edges: [][2]int{}, Conditional: []Conditional{}}
	index := map[int]int{} // of the graph, of the answer
	for i, n := range g.nodes {
		if n.Arch == arch && n.in(channel) {
			index[i] = len(a.Nodes)
			a.Nodes = append(a.Nodes, n.answer())
		}
	}
	for i, at := range index {
		for from := range g.previous[i] {
			if before, ok := index[from]; ok {
				a.Edges = append(a.Edges, [2]int{before, at})
			}
		}
	}
	slices.SortFunc(a.Edges, compareEdges)
	a.Conditional = g.groups(a.Nodes, index)
	return a
}

// ChannelsOf returns the channels of a release that Build was given, none if the graph has another
// image of its version.
func (g *Graph) ChannelsOf(r Release) []string {
	all := []string{}
	i, ok := g.byID[id(r.Version, r.Arch)]
	if !ok || g.nodes[i].Digest != r.Digest {
		return all
	}
	for name := range strings.SplitSeq(g.nodes[i].metadata[channelsKey], ",") {
		if name = strings.TrimSpace(name); name != "" {
			all = append(all, name)
		}
	}
	return all
}

// Has reports whether the answer for a channel and an architecture has a release.
func (g *Graph) Has(channel, arch string) bool {
	return slices.ContainsFunc(g.nodes, func(n *node) bool { return n.Arch == arch && n.in(channel) })
}

// Lists reports whether graph data has a version in a channel, also one of which Build was given no release.
func (g *Graph) Lists(name string, v semver.Version, arch string) bool {
	return slices.ContainsFunc(g.channels, func(c channel) bool {
		return c.name == name && slices.ContainsFunc(c.versions, func(listed semver.Version) bool {
			build := strings.Join(listed.Build, ".")
			return listed.Equals(v) && (build == "" || build == arch)
		})
	})
}

// in reports whether a release is in a channel.
func (n *node) in(channel string) bool {
	for name := range strings.SplitSeq(n.metadata[channelsKey], ",") {
		if strings.TrimSpace(name) == channel && channel != "" {
			return true
		}
	}
	return false
}

func (n *node) answer() Node {
	metadata := maps.Clone(n.metadata)
	delete(metadata, archKey)
	v := n.Version
	v.Build = nil
	return Node{v.String(), n.Payload, metadata}
}

// groups returns the conditional updates between the releases of an answer, those with the same
// risks together.
func (g *Graph) groups(nodes []Node, index map[int]int) []Conditional {
	ends := map[[2]int][]int{} // the risks of updates, by indexes of nodes
	for e, risks := range g.risky {
		from, ok := index[e.from]
		to, both := index[e.to]
		if ok && both {
			ends[[2]int{from, to}] = risks
		}
	}
	all, groups := []Conditional{}, map[string]int{}
	for _, e := range slices.SortedFunc(maps.Keys(ends), compareEdges) {
		key := fmt.Sprint(ends[e])
		at, ok := groups[key]
		if !ok {
			at = len(all)
			groups[key] = at
			all = append(all, g.group(ends[e]))
		}
		all[at].Edges = append(all[at].Edges, Update{nodes[e[0]].Version, nodes[e[1]].Version})
	}
	return all
}

func (g *Graph) group(risks []int) Conditional {
	var c Conditional
	for _, i := range risks {
		c.Risks = append(c.Risks, g.risks[i])
	}
	return c
}
