package graphdata

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/blang/semver/v4"
	"github.com/opencontainers/go-digest"
)

// Graph is the update graph of all releases, channels and architectures.
type Graph struct {
	nodes    []*node // by version, then architecture
	byID     map[string]int
	previous []map[int]bool // for each node, those that update to it
	next     []map[int]bool
	// descends reports whether an edge leads to a lower version: only then can there be a cycle.
	descends bool
	risks    []Risk         // each once, in the order that answers have them in
	risky    map[edge][]int // indexes of risks, of the updates that have some
	problems []Problem
	channels []channel
}

// edge is an update, between indexes of nodes.
type edge struct{ from, to int }

// node is a release in the graph.
type node struct {
	Release
	id       string // version+architecture
	metadata map[string]string
	own      string // its own pattern of predecessors to remove, "" if graph data replaces it
}

// Build computes the graph of releases with graph data. Of several images of one version and
// architecture it has one that a run has mirrored, if there is one, and of these the one whose digest
// is the lowest.
func Build(releases []Release, data *Data) *Graph {
	g := &Graph{byID: map[string]int{}, risky: map[edge][]int{}, problems: slices.Clone(data.Problems), channels: data.channels}
	g.addNodes(releases)
	g.addEdges()
	for _, raw := range data.raw {
		g.addRaw(raw)
	}
	blocks := g.unconditional(data.unconditional)
	conditional := g.conditional(data.conditional)
	g.join(data.channels)
	g.addByMetadata()
	g.findRisks(conditional)
	g.removeByMetadata(append(blocks, conditional...))
	return g
}

// Problems returns what of the content has no effect.
func (g *Graph) Problems() []Problem { return g.problems }

func (g *Graph) problem(where, format string, args ...any) {
	g.problems = append(g.problems, Problem{where, fmt.Sprintf(format, args...)})
}

// id names a version for an architecture, without the version's own build.
func id(v semver.Version, arch string) string {
	v.Build = nil
	return v.String() + "+" + arch
}

func (g *Graph) addNodes(releases []Release) {
	for _, r := range releases {
		if why := r.refused(); why != "" {
			g.problem(id(r.Version, r.Arch), "%s is left out, since clusters would refuse each answer with it: %s", r.Digest, why)
			continue
		}
		n := &node{Release: r, id: id(r.Version, r.Arch), metadata: maps.Clone(r.Metadata.Metadata)}
		if n.metadata == nil {
			n.metadata = map[string]string{}
		}
		n.metadata[archKey], n.metadata[manifestKey] = r.Arch, r.Digest.String()
		g.nodes = append(g.nodes, n)
	}
	slices.SortFunc(g.nodes, func(a, b *node) int {
		return cmp.Or(a.Version.Compare(b.Version), strings.Compare(a.Arch, b.Arch), btoi(b.Mirrored)-btoi(a.Mirrored),
			strings.Compare(string(a.Digest), string(b.Digest)), strings.Compare(a.Payload, b.Payload))
	})
	offered := map[string]digest.Digest{}
	g.nodes = slices.DeleteFunc(g.nodes, func(n *node) bool {
		d, ok := offered[n.id]
		if ok && d != n.Digest {
			g.problem(n.id, "there are several images of it, and %s is offered, not %s: delete one", d, n.Digest)
		}
		if !ok {
			offered[n.id] = n.Digest
		}
		return ok
	})
	for i, n := range g.nodes {
		g.byID[n.id] = i
		g.previous = append(g.previous, map[int]bool{})
		g.next = append(g.next, map[int]bool{})
	}
}

// addEdges adds what the releases say of their predecessors and successors.
func (g *Graph) addEdges() {
	var all []edge
	for i, n := range g.nodes {
		for _, v := range n.Previous {
			if from, ok := g.byID[id(v, n.Arch)]; ok {
				all = append(all, edge{from, i})
			}
		}
		for _, v := range n.Next {
			if to, ok := g.byID[id(v, n.Arch)]; ok {
				all = append(all, edge{i, to})
			}
		}
	}
	g.add(all)
}

// add adds edges but for those that would close a cycle. Nodes are in the order of their versions:
// edges that ascend close none among themselves, so those that descend come last and are looked at.
func (g *Graph) add(all []edge) {
	slices.SortStableFunc(all, func(a, b edge) int {
		return cmp.Or(btoi(a.descends())-btoi(b.descends()), a.from-b.from, a.to-b.to)
	})
	for _, e := range slices.Compact(all) {
		if g.previous[e.to][e.from] {
			continue
		}
		if (g.descends || e.descends()) && g.closes(e) {
			g.problem(g.nodes[e.to].id, "an update from %s would close a circle of updates, and is left out", g.nodes[e.from].id)
			continue
		}
		g.previous[e.to][e.from], g.next[e.from][e.to] = true, true
		g.descends = g.descends || e.descends()
	}
}

func (e edge) descends() bool { return e.from >= e.to }

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// closes reports whether an edge would close a cycle.
func (g *Graph) closes(e edge) bool {
	if e.from == e.to {
		return true
	}
	seen, todo := map[int]bool{e.to: true}, []int{e.to}
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for to := range g.next[at] {
			if to == e.from {
				return true
			}
			if !seen[to] {
				seen[to] = true
				todo = append(todo, to)
			}
		}
	}
	return false
}

func (g *Graph) remove(e edge) {
	delete(g.previous[e.to], e.from)
	delete(g.next[e.from], e.to)
}

// addRaw adds metadata to the releases of a version, of whatever architecture.
func (g *Graph) addRaw(raw rawMetadata) {
	for _, n := range g.nodes {
		if !n.Version.Equals(raw.version) { // which ignores builds
			continue
		}
		for key, value := range raw.values {
			n.appendTo(key, ",", value)
		}
	}
}

// appendTo appends a value to that of a key.
func (n *node) appendTo(key, separator, value string) {
	if old, ok := n.metadata[key]; ok {
		value = old + separator + value
	}
	n.metadata[key] = value
}

// join adds the releases of channels to these.
func (g *Graph) join(channels []channel) {
	for _, c := range channels {
		listed := map[string]bool{} // version+architecture, or version+ for each one
		for _, v := range c.versions {
			listed[id(v, strings.Join(v.Build, "."))] = true
		}
		for _, n := range g.nodes {
			if listed[n.id] || listed[id(n.Version, "")] {
				n.appendTo(channelsKey, ",", c.name)
			}
		}
	}
	for _, n := range g.nodes {
		if list, ok := n.metadata[channelsKey]; ok {
			// clusters refuse an empty name, which an image may bring
			names := slices.DeleteFunc(strings.Split(list, ","), func(name string) bool { return strings.TrimSpace(name) == "" })
			slices.SortFunc(names, compareChannels)
			n.metadata[channelsKey] = strings.Join(slices.Compact(names), ",")
		}
	}
}

// compareChannels orders channels by what follows the first hyphen, then by their names.
func compareChannels(a, b string) int {
	_, ofA, _ := strings.Cut(a, "-")
	_, ofB, _ := strings.Cut(b, "-")
	return cmp.Or(strings.Compare(ofA, ofB), strings.Compare(a, b))
}
