package updategraph

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/blang/semver/v4"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Range is the releases that are wanted of a channel.
type Range struct {
	Min, Max     string // versions; empty: see Resolve
	Full         bool
	ShortestPath bool
	// Start is like Min where neither Min nor Max is given, but it need not exist any more: it is the
	// next release then, and at most the head.
	Start string
	// Ends is a pattern of the releases that a bound may be that is not given; nil: any of them.
	Ends *regexp.Regexp
}

// empty is the error of a channel without a release that is wanted.
func (g *Graph) empty(format string, args ...any) error {
	return hint.New(fmt.Errorf("channel %s, architecture %s: %s", g.Channel, g.Arch, fmt.Sprintf(format, args...)),
		"check the channel's name, its versions and the architecture; https://access.redhat.com/labs/ocpupgradegraph/update_channel/ lists them")
}

// Resolve returns the releases of a range as oc-mirror does, in ascending order and at least one:
// with neither Min nor Max the channel's head, with Full all, with only Min from there to the head,
// with only Max from the channel's lowest, whatever edges connect them. With ShortestPath it
// returns the shortest path along the edges from the lowest to the highest of these, or just these
// two, with a warning, where there is no path.
func (g *Graph) Resolve(r Range) (nodes []Node, warnings []string, err error) {
	sorted := g.sorted()
	if len(sorted) == 0 {
		return nil, nil, g.empty("the update service knows no release in it")
	}
	low, high, err := g.bounds(sorted, r)
	if err != nil {
		return nil, nil, err
	}
	if r.ShortestPath {
		return g.shortestPath(low, high)
	}
	within := slices.DeleteFunc(sorted, func(n Node) bool { return n.Version.LT(low) || n.Version.GT(high) })
	if len(within) == 0 {
		return nil, nil, g.empty("it has no release from %s to %s, only from %s to %s",
			low, high, g.sorted()[0].Version, g.sorted()[len(g.Nodes)-1].Version)
	}
	return within, nil, nil
}

func (g *Graph) sorted() []Node {
	return slices.SortedFunc(slices.Values(g.Nodes), func(a, b Node) int { return a.Version.Compare(b.Version) })
}

// bounds returns the lowest and the highest version of a range. Only the ends of a path need exist.
func (g *Graph) bounds(sorted []Node, r Range) (low, high semver.Version, err error) {
	ends := sorted
	if r.Ends != nil {
		ends = slices.DeleteFunc(slices.Clone(sorted), func(n Node) bool { return !r.Ends.MatchString(n.Version.String()) })
	}
	if len(ends) == 0 {
		return low, high, g.empty("it has no release like %s", r.Ends)
	}
	first, head := ends[0].Version, ends[len(ends)-1].Version
	low, high = head, head
	if r.Full || r.Min == "" && r.Max != "" {
		low = first
	}
	if r.Start != "" && r.Min == "" && r.Max == "" && !r.Full {
		if low, err = start(sorted, r.Start, head); err != nil {
			return low, high, err
		}
	}
	if r.Min != "" {
		if low, err = semver.Parse(r.Min); err != nil {
			return low, high, fmt.Errorf("minVersion %q: %w", r.Min, err)
		}
	}
	if r.Max != "" {
		if high, err = semver.Parse(r.Max); err != nil {
			return low, high, fmt.Errorf("maxVersion %q: %w", r.Max, err)
		}
	}
	if low.GT(high) {
		return low, high, g.empty("nothing lies between %s and %s, its highest release is %s", low, high, head)
	}
	return low, high, nil
}

// start returns the first release from a version on, and at most the head.
func start(sorted []Node, version string, head semver.Version) (semver.Version, error) {
	from, err := semver.Parse(version)
	if err != nil {
		return head, fmt.Errorf("the version %q that the channel began with: %w", version, err)
	}
	for _, n := range sorted {
		if n.Version.GTE(from) && n.Version.LT(head) {
			return n.Version, nil
		}
	}
	return head, nil
}

// shortestPath searches breadth first, the highest neighbour first, so that of two paths of the
// same length the one over newer releases is taken. It returns both ends too; without a path it
// returns only these, as oc-mirror does.
func (g *Graph) shortestPath(from, to semver.Version) (nodes []Node, warnings []string, err error) {
	start, goal := g.index(from), g.index(to)
	if start < 0 {
		return nil, nil, g.empty("it does not have release %s, where a path is to start", from)
	}
	if goal < 0 {
		return nil, nil, g.empty("it does not have release %s, where a path is to end", to)
	}
	next := g.neighbours()
	cameFrom := map[int]int{start: start}
	for queue := []int{start}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if at == goal {
			return g.path(cameFrom, goal), nil, nil
		}
		for _, n := range next[at] {
			if _, seen := cameFrom[n]; !seen {
				cameFrom[n] = at
				queue = append(queue, n)
			}
		}
	}
	return []Node{g.Nodes[start], g.Nodes[goal]}, []string{fmt.Sprintf(
		"channel %s, architecture %s: no update path leads from %s to %s, so only these two are mirrored; leave shortestPath out to have every release between them",
		g.Channel, g.Arch, from, to)}, nil
}

func (g *Graph) index(v semver.Version) int {
	return slices.IndexFunc(g.Nodes, func(n Node) bool { return n.Version.EQ(v) })
}

func (g *Graph) neighbours() map[int][]int {
	next := map[int][]int{}
	for _, e := range g.Edges {
		next[e[0]] = append(next[e[0]], e[1])
	}
	for _, ns := range next {
		slices.SortFunc(ns, func(a, b int) int { return g.Nodes[b].Version.Compare(g.Nodes[a].Version) })
	}
	return next
}

func (g *Graph) path(cameFrom map[int]int, goal int) []Node {
	var path []Node
	for at := goal; ; at = cameFrom[at] {
		path = append(path, g.Nodes[at])
		if cameFrom[at] == at {
			slices.Reverse(path)
			return path
		}
	}
}
