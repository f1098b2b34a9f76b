package console

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/blang/semver/v4"

	"github.com/mirror-appliance/appliance/mirror/graphdata"
)

// shownBoxes is how many boxes a column has at most, unless it is opened: what is older is in one.
const shownBoxes = 12

// graph is what is drawn of a channel: its releases, those of a minor version below each other, and updates
// between them. Each release by itself would be hundreds of boxes, and each update ten thousand arrows.
type graph struct {
	columns []column
	arrows  []arrow
}

// column has the releases of a minor version, the oldest first.
type column struct {
	minor string // such as 4.18
	boxes []box
}

// box is a release, or several that follow each other.
type box struct {
	versions []string
	held     int // of versions
}

// spot is where a box is: a column, and a box of it.
type spot struct{ column, box int }

func (p spot) compare(other spot) int {
	return cmp.Or(cmp.Compare(p.column, other.column), cmp.Compare(p.box, other.box))
}

// arrow is an update from a box to another.
type arrow struct {
	from, to spot
	risky    bool // each update that it stands for has risks
	way      bool // it is of the way that was asked for
}

// released is a release of a channel.
type released struct {
	semver.Version
	name string
	held bool
}

// releasedIn returns the releases of a channel, the oldest first: those that are here and, of listed, the others.
func releasedIn(a graphdata.Answer, listed []string) (all []released) {
	held := map[string]bool{}
	for _, n := range a.Nodes {
		held[n.Version] = true
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Keys(held)), listed)))) {
		if v, err := semver.Parse(name); err == nil {
			all = append(all, released{v, name, held[name]})
		}
	}
	slices.SortFunc(all, func(x, y released) int { return cmp.Or(x.Compare(y.Version), cmp.Compare(x.name, y.name)) })
	return all
}

// minorOf returns the minor version of a release.
func (r released) minorOf() string {
	return fmt.Sprintf("%d.%d", r.Major, r.Minor)
}

// layOut returns releases in columns. Of those in stay each has a box of its own, and the column opened has
// all of its boxes. Those that are not here share boxes, unless they are to be apart.
func layOut(all []released, stay map[string]bool, opened string, apart bool) (columns []column) {
	for _, r := range all {
		minor := r.minorOf()
		if n := len(columns); n == 0 || columns[n-1].minor != minor {
			columns = append(columns, column{minor: minor})
		}
		c := &columns[len(columns)-1]
		last := len(c.boxes) - 1
		switch {
		case r.held:
			c.boxes = append(c.boxes, box{[]string{r.name}, 1})
		case !apart && last >= 0 && c.boxes[last].held == 0:
			c.boxes[last].versions = append(c.boxes[last].versions, r.name)
		default:
			c.boxes = append(c.boxes, box{[]string{r.name}, 0})
		}
	}
	for i, c := range columns {
		if c.minor != opened {
			columns[i].boxes = c.collapsed(stay)
		}
	}
	return columns
}

// collapsed returns the newest boxes of a column, and before them one for each run of older ones, but for
// those that stay.
func (c column) collapsed(stay map[string]bool) (boxes []box) {
	if len(c.boxes) <= shownBoxes {
		return c.boxes
	}
	run := -1 // the box that older ones go to
	for i, b := range c.boxes {
		switch {
		case i >= len(c.boxes)-shownBoxes+1 || stay[b.versions[0]]:
			boxes, run = append(boxes, b), -1
		case run < 0:
			run = len(boxes)
			boxes = append(boxes, box{slices.Clone(b.versions), b.held})
		default:
			boxes[run].versions = append(boxes[run].versions, b.versions...)
			boxes[run].held += b.held
		}
	}
	return boxes
}

// spotsOf returns where each release is.
func spotsOf(columns []column) map[string]spot {
	all := map[string]spot{}
	for i, c := range columns {
		for j, b := range c.boxes {
			for _, v := range b.versions {
				all[v] = spot{i, j}
			}
		}
	}
	return all
}

// hop is an update of a graph.
type hop struct {
	from, to string
	risky    bool
}

// hopsOf returns the updates of a channel.
func hopsOf(a graphdata.Answer) (all []hop) {
	for _, e := range a.Edges {
		all = append(all, hop{a.Nodes[e[0]].Version, a.Nodes[e[1]].Version, false})
	}
	for _, c := range a.Conditional {
		for _, e := range c.Edges {
			all = append(all, hop{e.From, e.To, true})
		}
	}
	return all
}

// lastHops returns the last update of each way.
func lastHops(routes map[string][]graphdata.Hop) (all []hop) {
	for _, way := range routes {
		if n := len(way); n > 0 {
			all = append(all, hop{way[n-1].From, way[n-1].To, len(way[n-1].Risks) > 0})
		}
	}
	return all
}

// ends returns which boxes updates lead between, and whether each of those updates has risks.
func ends(at map[string]spot, hops []hop) map[[2]spot]bool {
	all := map[[2]spot]bool{}
	for _, h := range hops {
		from, ok := at[h.from]
		to, both := at[h.to]
		if ok && both && from != to {
			key := [2]spot{from, to}
			was, known := all[key]
			all[key] = h.risky && (was || !known)
		}
	}
	return all
}

// withoutDetours leaves out what other updates lead around, since a release updates to nearly each newer one: what
// a cluster can come to stays the same.
func withoutDetours(all map[[2]spot]bool) map[[2]spot]bool {
	next := map[spot][]spot{} // by updates without risks, forward
	for key, risky := range all {
		if !risky && key[0].compare(key[1]) < 0 {
			next[key[0]] = append(next[key[0]], key[1])
		}
	}
	reached := reachedBy(next)
	kept := map[[2]spot]bool{}
	for key, risky := range all {
		around := false
		for p := range reached[key[0]] {
			if risky { // a release that is reached from there has that update too
				around = around || p != key[1] && all[[2]spot{p, key[1]}]
			} else {
				around = around || key[0].compare(key[1]) < 0 && reached[p][key[1]]
			}
		}
		if !around {
			kept[key] = risky
		}
	}
	return kept
}

// reachedBy returns what each spot reaches. next leads forward only.
func reachedBy(next map[spot][]spot) map[spot]map[spot]bool {
	all := map[spot]map[spot]bool{}
	for _, p := range slices.Backward(slices.SortedFunc(maps.Keys(next), spot.compare)) {
		all[p] = map[spot]bool{}
		for _, n := range next[p] {
			all[p][n] = true
			maps.Copy(all[p], all[n])
		}
	}
	return all
}

// arrowsOf returns the arrows of updates, in their order.
func arrowsOf(ends map[[2]spot]bool) (all []arrow) {
	for key, risky := range ends {
		all = append(all, arrow{from: key[0], to: key[1], risky: risky})
	}
	slices.SortFunc(all, func(a, b arrow) int { return cmp.Or(a.from.compare(b.from), a.to.compare(b.to)) })
	return all
}

// mark adds the arrows of a way, or marks those that are there.
func (g *graph) mark(at map[string]spot, way []graphdata.Hop) {
	for _, h := range way {
		from, to := at[h.From], at[h.To]
		i := slices.IndexFunc(g.arrows, func(a arrow) bool { return a.from == from && a.to == to })
		if i < 0 {
			i = len(g.arrows)
			g.arrows = append(g.arrows, arrow{from: from, to: to})
		}
		g.arrows[i].way, g.arrows[i].risky = true, len(h.Risks) > 0
	}
}

// onTheWay returns the releases from which to can be reached, of some hops.
func onTheWay(hops []hop, to string) map[string]bool {
	before := map[string][]string{}
	for _, h := range hops {
		before[h.to] = append(before[h.to], h.from)
	}
	found, todo := map[string]bool{to: true}, []string{to}
	for len(todo) > 0 {
		v := todo[0]
		todo = todo[1:]
		for _, from := range before[v] {
			if !found[from] {
				found[from] = true
				todo = append(todo, from)
			}
		}
	}
	return found
}
