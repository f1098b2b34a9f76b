package operator

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// graph is a channel's entries by name. Every walk visits each entry once: real channels have 93
// entries with 4,944 skips.
type graph struct {
	entries []entry
	at      map[string]int
}

func newGraph(entries []entry) *graph {
	g := &graph{entries, make(map[string]int, len(entries))}
	for i, e := range entries {
		if _, twice := g.at[e.Name]; !twice {
			g.at[e.Name] = i
		}
	}
	return g
}

// heads returns the entries, of those that in has, that no other of them replaces or skips.
func (g *graph) heads(in func(name string) bool) []string {
	covered := map[string]bool{}
	for _, e := range g.entries {
		if !in(e.Name) {
			continue
		}
		covered[e.Replaces] = true
		for _, skipped := range e.Skips {
			covered[skipped] = true
		}
	}
	var heads []string
	for _, e := range g.entries {
		if in(e.Name) && !covered[e.Name] {
			heads = append(heads, e.Name)
		}
	}
	slices.Sort(heads)
	return heads
}

// head returns the one entry that no other replaces or skips. A channel without one has a fault.
func (g *graph) head() (string, error) {
	if len(g.entries) == 0 {
		return "", errors.New("channel has no entries")
	}
	var faults []error
	for i, e := range g.entries {
		if g.at[e.Name] != i {
			faults = append(faults, fmt.Errorf("duplicate channel entry %q", e.Name))
		}
		if err := e.leadsToItself(); err != nil {
			faults = append(faults, err)
		}
	}
	heads := g.heads(func(string) bool { return true })
	switch {
	case len(heads) == 0:
		faults = append(faults, errors.New("no channel heads found"))
	case len(heads) > 1:
		faults = append(faults, fmt.Errorf("multiple channel heads found: %v", heads))
	}
	if len(faults) == 0 && g.cyclic() {
		faults = append(faults, errors.New("detected a cycle in the upgrade graph of the channel"))
	}
	if err := errors.Join(faults...); err != nil {
		return "", err
	}
	return heads[0], nil
}

// leadsToItself returns an error for an entry that replaces or skips itself: it is never the head of
// a channel, and so cannot be all of one.
func (e entry) leadsToItself() error {
	switch {
	case e.Replaces == e.Name:
		return fmt.Errorf("invalid channel entry %q: replaces itself", e.Name)
	case slices.Contains(e.Skips, e.Name):
		return fmt.Errorf("invalid channel entry %q: skips itself", e.Name)
	}
	return nil
}

// cyclic reports whether an entry leads to itself by replaces and skips.
func (g *graph) cyclic() bool {
	coming := make([]int, len(g.entries))
	each := func(i int, f func(j int)) {
		e := g.entries[i]
		for _, name := range append([]string{e.Replaces}, e.Skips...) {
			if j, ok := g.at[name]; ok {
				f(j)
			}
		}
	}
	for i := range g.entries {
		each(i, func(j int) { coming[j]++ })
	}
	var ready []int
	for i, n := range coming {
		if n == 0 {
			ready = append(ready, i)
		}
	}
	visited := 0
	for ; len(ready) > 0; visited++ {
		i := ready[len(ready)-1]
		ready = ready[:len(ready)-1]
		each(i, func(j int) {
			if coming[j]--; coming[j] == 0 {
				ready = append(ready, j)
			}
		})
	}
	return visited < len(g.entries)
}

// chain follows replaces from an entry while next is one that in has. It ends at a cycle.
func (g *graph) chain(from string, in func(name string) bool) []entry {
	var nodes []entry
	seen := map[string]bool{}
	for name := from; ; {
		i, ok := g.at[name]
		if !ok || seen[name] || !in(name) {
			return nodes
		}
		seen[name] = true
		nodes = append(nodes, g.entries[i])
		name = g.entries[i].Replaces
	}
}

// within returns the entries that a range leaves of a chain, whose first node is a channel's head.
// Only entries of the channel count: a bundle that a tail replaces is of another.
//
// One head is kept: the lowest node below which, itself and what it skips included, are all
// versions in range. Below the first node with none of them, nothing is kept.
func (g *graph) within(nodes []entry, member func(name string) bool) map[string]bool {
	counted := map[string]bool{}
	counts := make([]int, len(nodes))
	for i := len(nodes) - 1; i >= 0; i-- {
		for _, name := range append([]string{nodes[i].Name}, nodes[i].Skips...) {
			if _, ok := g.at[name]; ok && member(name) {
				counted[name] = true
			}
		}
		counts[i] = len(counted)
	}
	kept := map[string]bool{}
	for i, node := range nodes {
		if counts[i] == 0 {
			break
		}
		if i+1 < len(nodes) && counts[i+1] == counts[0] {
			continue // a lower node has them all
		}
		kept[node.Name] = true
		for _, name := range node.Skips {
			if counted[name] {
				kept[name] = true
			}
		}
	}
	return kept
}

// stranded returns the entries, of those that in has, that opm refuses a channel for: the chain from
// the head, which ends where a node is skipped, does not reach them, and none of them skips them.
func (g *graph) stranded(head string, in func(name string) bool) []string {
	reached := map[string]bool{}
	for _, e := range g.entries {
		if in(e.Name) {
			for _, name := range e.Skips {
				reached[name] = true
			}
		}
	}
	skipped := maps.Clone(reached)
	reached[head] = true
	for _, node := range g.chain(head, func(name string) bool { return name == head || in(name) && !skipped[name] }) {
		reached[node.Name] = true
	}
	var names []string
	for _, e := range g.entries {
		if in(e.Name) && !reached[e.Name] {
			names = append(names, e.Name)
		}
	}
	return names
}

// path applies keep to the chain from a head until no entry that it keeps is stranded. Entries
// that are stranded in the catalog itself stay so.
func (g *graph) path(head string, in func(name string) bool, keep func(nodes []entry, in func(name string) bool) map[string]bool) map[string]bool {
	always := map[string]bool{}
	if top := g.heads(everything); len(top) == 1 {
		for _, name := range g.stranded(top[0], everything) {
			always[name] = true
		}
	}
	cut := map[string]bool{}
	left := func(name string) bool { return in(name) && !cut[name] }
	for {
		kept := keep(g.chain(head, left), left)
		top := g.heads(func(name string) bool { return kept[name] })
		if len(top) != 1 {
			return kept
		}
		more := slices.DeleteFunc(g.stranded(top[0], func(name string) bool { return kept[name] }),
			func(name string) bool { return always[name] })
		if len(more) == 0 {
			return kept
		}
		for _, name := range more {
			cut[name] = true
		}
	}
}

// nearest returns, of several bundles, the one that the fewest steps lead to from a channel's
// head; where no step leads to any, or the channel has no head, the last by name.
func (g *graph) nearest(of []string) string {
	layer := g.heads(func(string) bool { return true })
	seen := map[string]bool{}
	for len(layer) > 0 {
		var below, found []string
		for _, name := range layer {
			if slices.Contains(of, name) {
				found = append(found, name)
			}
			if i, ok := g.at[name]; ok && !seen[name] {
				below = append(append(below, g.entries[i].Replaces), g.entries[i].Skips...)
			}
			seen[name] = true
		}
		if len(found) > 0 {
			return slices.Max(found)
		}
		layer = slices.DeleteFunc(below, func(name string) bool { return seen[name] })
		slices.Sort(layer)
		layer = slices.Compact(layer)
	}
	return slices.Max(of)
}

// newest returns the name of the highest version; of equal ones the last by name. Entries without
// version are below all others.
func newest(names []string, versions map[string]*semver.Version) string {
	return slices.MaxFunc(names, func(a, b string) int {
		va, vb := versions[a], versions[b]
		switch {
		case va == nil && vb == nil:
		case va == nil:
			return -1
		case vb == nil:
			return 1
		default:
			if c := va.Compare(vb); c != 0 {
				return c
			}
		}
		return strings.Compare(a, b)
	})
}

// newerText reports whether a version is above another one. What is no version is below all.
func newerText(a, b string) bool {
	va, err := semver.StrictNewVersion(a)
	if err != nil {
		return false
	}
	vb, err := semver.StrictNewVersion(b)
	return err != nil || va.GreaterThan(vb)
}
