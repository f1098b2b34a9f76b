package operator

import (
	"slices"
	"strings"
)

// absent reports whether a bundle is as if it were not there.
func (p *part) absent(name string) bool { return p.lacks != nil && p.lacks(p.pack.name, name) }

// lacking reports whether any bundle of the package is absent.
func (p *part) lacking() bool {
	return slices.ContainsFunc(p.pack.bundles, func(b bundle) bool { return p.absent(b.name) })
}

// dropLacking takes absent bundles out of the channels.
//
// A channel cannot list a bundle that is not there, and must have one head, so that an absent
// bundle in the middle of the upgrade path cuts the channel in two. The upper part is kept: its
// head is what new installations get, and what every upgrade is to lead to. Texts of entries are
// not changed: replaces and skips that name an absent bundle still lead a cluster that runs it
// upwards, and an edge around it would be an upgrade that its publisher has not tested.
func (p *part) dropLacking() {
	if !p.lacking() {
		return
	}
	var left []keptChannel
	var gone []string
	for _, c := range p.channels {
		was := c.kept
		if c.kept = p.connected(c); len(c.kept) > 0 || len(c.entries) == 0 {
			left = append(left, c)
		} else {
			gone = append(gone, c.name)
		}
		p.warnLost(c, was)
	}
	p.channels = left
	if len(left) == 0 {
		p.warn("", "", "package %q is left out: none of its bundles that are asked for is complete; a cluster cannot install or upgrade it from this catalog", p.pack.name)
		return
	}
	if slices.Contains(gone, p.defaultChannel) {
		p.replaceDefault()
	}
}

// connected returns the entries of a channel that are there and make an upgrade path to one head.
func (p *part) connected(c keptChannel) map[string]bool {
	wanted := func(name string) bool { return c.kept[name] }
	if c.asked.none() && !p.full && len(p.config.Bundles) == 0 {
		wanted = everything // the head is asked for, whichever that is
	}
	g := newGraph(c.entries)
	left := newPeel(g, wanted)
	for {
		head := left.head(p)
		if head == "" {
			return map[string]bool{}
		}
		if !p.absent(head) {
			if kept := p.below(c, g, head, wanted); len(kept) > 0 {
				return kept
			}
		}
		left.remove(head)
	}
}

// below returns what is kept of a channel whose head is given.
func (p *part) below(c keptChannel, g *graph, head string, wanted func(string) bool) map[string]bool {
	there := func(name string) bool { return wanted(name) && !p.absent(name) }
	if c.asked.none() && !p.full && len(p.config.Bundles) == 0 {
		return map[string]bool{head: true}
	}
	return g.path(head, there, func(nodes []entry, in func(string) bool) map[string]bool {
		if !c.asked.none() && !c.asked.exact() {
			return g.within(nodes, func(name string) bool { return in(name) && c.asked.has(p.versions[name]) })
		}
		kept := map[string]bool{}
		for _, node := range nodes {
			kept[node.Name] = true
			for _, name := range node.Skips {
				if _, ok := g.at[name]; ok && in(name) {
					kept[name] = true
				}
			}
		}
		return kept
	})
}

// peel takes heads off a channel, one after another.
type peel struct {
	graph   *graph
	in      map[string]bool
	covered map[string]int // how many of the entries that are in replace or skip it
}

func newPeel(g *graph, in func(string) bool) *peel {
	p := &peel{g, map[string]bool{}, map[string]int{}}
	for name, i := range g.at {
		if in(name) {
			p.in[name] = true
			p.cover(g.entries[i], 1)
		}
	}
	return p
}

func (p *peel) cover(e entry, n int) {
	p.covered[e.Replaces] += n
	for _, name := range e.Skips {
		p.covered[name] += n
	}
}

// head returns the entry that no other replaces or skips, "" if there is none; of several, which
// an absent head may have skipped, the newest.
func (p *peel) head(of *part) string {
	var heads []string
	for name := range p.in {
		if p.covered[name] == 0 {
			heads = append(heads, name)
		}
	}
	if len(heads) == 0 {
		return ""
	}
	return newest(heads, of.versions)
}

func (p *peel) remove(name string) {
	delete(p.in, name)
	p.cover(p.graph.entries[p.graph.at[name]], -1)
}

// replaceDefault gives the package another default channel: the one with the newest head.
func (p *part) replaceDefault() {
	was := p.defaultChannel
	best := slices.MaxFunc(p.channels, func(a, b keptChannel) int {
		ha, hb := p.headOf(a), p.headOf(b)
		if va, vb := p.versions[ha], p.versions[hb]; va != nil && vb != nil && va.Compare(vb) != 0 {
			return va.Compare(vb)
		}
		return strings.Compare(b.name, a.name)
	})
	p.defaultChannel = best.name
	p.warn(best.name, "", "channel %q, the default of package %q, is left out: channel %q becomes the default, which is what a Subscription without a channel gets",
		was, p.pack.name, best.name)
}

func (p *part) headOf(c keptChannel) string {
	heads := newGraph(c.entries).heads(c.keep)
	if len(heads) == 0 {
		return ""
	}
	return newest(heads, p.versions)
}
