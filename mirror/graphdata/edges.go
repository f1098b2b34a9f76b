package graphdata

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/blang/semver/v4"
)

// blocked is a block for one release image.
type blocked struct {
	block
	node int
}

// unconditional returns the blocks of updates that are not offered, by the images that they are of,
// and notes them in the metadata. What an image says itself is replaced, as the reference does; of
// several files for one release each has an effect, where the reference has that of the last alone.
func (g *Graph) unconditional(all []block) []blocked {
	for _, n := range g.nodes {
		n.own = n.metadata[previousRegex]
	}
	var found []blocked
	for _, b := range all {
		arch := strings.Join(b.to.Build, ".")
		if arch == "" && len(b.to.Pre) == 1 && b.to.Pre[0].String() == "s390x" {
			arch = "s390x" // some releases of 4.2 are named 4.2.11-s390x
		}
		found = append(found, g.targets(b, arch)...)
	}
	patterns := map[int][]string{}
	for _, b := range found {
		patterns[b.node] = append(patterns[b.node], b.from.String())
	}
	for i, list := range patterns {
		g.nodes[i].own, g.nodes[i].metadata[previousRegex] = "", strings.Join(list, "|")
	}
	return found
}

// conditional returns the blocks that are risks, and notes them in the metadata.
func (g *Graph) conditional(all []block) []blocked {
	var found []blocked
	for _, b := range all {
		for _, one := range g.targets(b, strings.Join(b.to.Build, ".")) {
			found = append(found, one)
			g.nodes[one.node].appendTo(previousRegex, "|", b.from.String())
		}
	}
	return found
}

// targets returns a block for each image that it is of: those of each architecture if arch is "".
func (g *Graph) targets(b block, arch string) []blocked {
	var found []blocked
	for i, n := range g.nodes {
		if n.Version.Equals(b.to) && (arch == "" || arch == n.Arch) {
			found = append(found, blocked{b, i})
		}
	}
	return found
}

// addByMetadata adds the edges that metadata names.
func (g *Graph) addByMetadata() {
	for _, key := range []string{previousAdd, nextAdd} {
		var all []edge
		for i := range g.nodes {
			for _, other := range g.named(i, key) {
				if key == nextAdd {
					all = append(all, edge{i, other})
				} else {
					all = append(all, edge{other, i})
				}
			}
		}
		g.add(all)
	}
}

// named returns the releases that a list in a release's metadata names, of its own architecture.
func (g *Graph) named(i int, key string) []int {
	n := g.nodes[i]
	list, ok := n.metadata[key]
	if !ok {
		return nil
	}
	var all []int
	for text := range strings.SplitSeq(list, ",") {
		text = strings.TrimSpace(text)
		v, err := semver.Parse(text)
		if err != nil {
			g.problem(n.id, "%s has %q, which is not a version", key, text)
			continue
		}
		if other, ok := g.byID[id(v, n.Arch)]; ok {
			all = append(all, other)
		}
	}
	return all
}

// findRisks finds the risks of the edges that there are.
func (g *Graph) findRisks(all []blocked) {
	for _, b := range all {
		g.risks = append(g.risks, b.risk)
	}
	slices.SortFunc(g.risks, Risk.compare)
	g.risks = slices.CompactFunc(g.risks, func(a, b Risk) bool { return a.compare(b) == 0 })
	for _, b := range all {
		risk, _ := slices.BinarySearchFunc(g.risks, b.risk, Risk.compare)
		for from := range g.previous[b.node] {
			e := edge{from, b.node}
			if b.from.MatchString(g.nodes[from].id) {
				g.risky[e] = append(g.risky[e], risk)
			}
		}
	}
	for e, list := range g.risky {
		slices.Sort(list)
		g.risky[e] = slices.Compact(list)
	}
}

// removeByMetadata removes the edges that metadata and blocks name.
func (g *Graph) removeByMetadata(blocks []blocked) {
	for i, n := range g.nodes {
		if strings.TrimSpace(n.metadata[previousRemove]) == previousRemoveAll {
			g.removePrevious(i, func(int) bool { return true })
			continue
		}
		for _, from := range g.named(i, previousRemove) {
			g.remove(edge{from, i})
		}
	}
	for _, b := range blocks {
		g.removePrevious(b.node, func(from int) bool { return b.from.MatchString(g.nodes[from].id) })
	}
	g.removeByOwnPattern()
	for i := range g.nodes {
		for _, to := range g.named(i, nextRemove) {
			g.remove(edge{i, to})
		}
	}
}

func (g *Graph) removePrevious(to int, which func(from int) bool) {
	for from := range g.previous[to] {
		if which(from) {
			g.remove(edge{from, to})
		}
	}
}

// removeByOwnPattern removes the edges that match the patterns of the images themselves. They stand
// alone: a bad one must not take the effect from those of graph data.
func (g *Graph) removeByOwnPattern() {
	for i, n := range g.nodes {
		if n.own == "" {
			continue
		}
		own, err := regexp.Compile(n.own)
		if err != nil {
			g.problem(n.id, "%s has no effect: %v", previousRegex, err)
			continue
		}
		g.removePrevious(i, func(from int) bool { return own.MatchString(g.nodes[from].id) })
	}
}

// compareEdges orders edges by their ends.
func compareEdges(a, b [2]int) int { return cmp.Or(a[0]-b[0], a[1]-b[1]) }
