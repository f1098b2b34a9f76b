package graphdata

import (
	"cmp"
	"slices"

	"github.com/blang/semver/v4"
)

// Hop is one update of a route.
type Hop struct {
	From  string `json:"from"`
	To    string `json:"to"`
	Risks []Risk `json:"risks,omitempty"` // none: it is recommended to every cluster
}

// Routes returns the best route from a version to each release that it can reach, by version: the
// one with the fewest updates that have risks, and of those the shortest, then the one through the
// newest releases. The route to the version itself is empty. A version that is not in the answer has
// none.
func (a Answer) Routes(from string) map[string][]Hop {
	hops := a.hops()
	best := map[string]route{}
	if slices.ContainsFunc(a.Nodes, func(n Node) bool { return n.Version == from }) {
		best[from] = route{hops: []Hop{}}
	}
	todo := []string{from}
	for len(todo) > 0 {
		// of what is to do, the best route first: what is reached from it is final then
		at := slices.MinFunc(todo, func(x, y string) int { return best[x].compare(best[y]) })
		todo = slices.DeleteFunc(todo, func(v string) bool { return v == at })
		for _, h := range hops[at] {
			next := best[at].with(h)
			if old, ok := best[h.To]; !ok || next.compare(old) < 0 {
				best[h.To] = next
				todo = append(todo, h.To)
			}
		}
	}
	all := map[string][]Hop{}
	for v, r := range best {
		all[v] = r.hops
	}
	return all
}

// route is a way to a release.
type route struct {
	hops  []Hop
	risky int // hops with risks
}

func (r route) with(h Hop) route {
	next := route{append(slices.Clone(r.hops), h), r.risky}
	if len(h.Risks) > 0 {
		next.risky++
	}
	return next
}

// compare orders routes, the better first.
func (r route) compare(other route) int {
	if c := cmp.Or(cmp.Compare(r.risky, other.risky), cmp.Compare(len(r.hops), len(other.hops))); c != 0 {
		return c
	}
	return slices.CompareFunc(r.hops, other.hops, func(a, b Hop) int { return compareTexts(b.To, a.To) })
}

// compareTexts orders versions; those of answers are always valid.
func compareTexts(a, b string) int {
	v, err := semver.Parse(a)
	w, err2 := semver.Parse(b)
	if err != nil || err2 != nil {
		return cmp.Compare(a, b)
	}
	return v.Compare(w)
}

// hops returns the updates of an answer by the version that they are from.
func (a Answer) hops() map[string][]Hop {
	all := map[string][]Hop{}
	for _, e := range a.Edges {
		from := a.Nodes[e[0]].Version
		all[from] = append(all[from], Hop{From: from, To: a.Nodes[e[1]].Version})
	}
	for _, c := range a.Conditional {
		for _, e := range c.Edges {
			all[e.From] = append(all[e.From], Hop{e.From, e.To, c.Risks})
		}
	}
	return all
}
