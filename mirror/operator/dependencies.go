package operator

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// Dependency is something that bundles of a package require, and what of the catalog provides it.
type Dependency struct {
	Package, Bundle, Version string // the newest bundle of the package that requires it
	Requires                 string // "package "x" in versions ">=1.0.0"", "API Kind.v1.group"

	// Provider is what provides it: a bundle of the selection, else the one that OLM would choose;
	// nil if the catalog has none.
	Provider *Provider
	// Selected reports whether the provider is in the selection.
	Selected bool
}

// Provider is a bundle that provides what another one requires.
type Provider struct{ Package, Channel, Bundle, Version string }

// String returns a line with the requirement, the bundle that has it, and the provider.
func (d Dependency) String() string {
	text := fmt.Sprintf("package %q: bundle %q requires %s", d.Package, d.Bundle, d.Requires)
	switch {
	case d.Provider == nil:
		return text + ", which nothing in the catalog provides"
	case d.Selected:
		return text + fmt.Sprintf(", which %q provides", d.Provider.Bundle)
	}
	return text + fmt.Sprintf(", which is not selected; bundle %q of package %q, channel %q, provides it", d.Provider.Bundle, d.Provider.Package, d.Provider.Channel)
}

// Dependencies returns what the bundles of the selection require, by package. Providers are chosen
// as OLM does: what is selected already, else the head of a default channel, else the highest
// version that is in range, in a default channel first.
func (s *Selection) Dependencies() []Dependency {
	a := s.index.apis()
	found := map[string]*supply{}
	var list []Dependency
	for _, p := range s.parts {
		seen := map[string]int{}
		for _, b := range p.bundles {
			for _, prop := range s.index.props[b.props] {
				c, ok := required(prop)
				if !ok {
					continue
				}
				key := prop.kind + prop.value
				if i, again := seen[key]; again {
					if newerText(b.version, list[i].Version) {
						list[i].Bundle, list[i].Version = b.name, b.version
					}
					continue
				}
				seen[key] = len(list)
				if found[key] == nil {
					found[key] = s.provider(c, a)
				}
				list = append(list, Dependency{p.pack.name, b.name, b.version, c.String(), found[key].of, found[key].selected})
			}
		}
	}
	return list
}

// supply is a provider that was chosen, and whether it is in the selection.
type supply struct {
	of       *Provider
	selected bool
}

// apis returns, for each set of properties, the APIs that a bundle with it provides.
func (x *Index) apis() []map[gvk]bool {
	sets := make([]map[gvk]bool, len(x.props))
	for i, props := range x.props {
		sets[i] = map[gvk]bool{}
		for _, p := range props {
			var api gvk
			if p.kind == "olm.gvk" && json.Unmarshal([]byte(p.value), &api) == nil {
				sets[i][api] = true
			}
		}
	}
	return sets
}

// provider chooses the bundle that meets a constraint.
func (s *Selection) provider(c constraint, apis []map[gvk]bool) *supply {
	for _, p := range s.parts {
		for _, b := range p.bundles {
			if c.met(candidate{p.pack.name, b.version, apis[b.props]}) {
				return &supply{&Provider{Package: p.pack.name, Channel: p.channelOf(b.name), Bundle: b.name, Version: b.version}, true}
			}
		}
	}
	var best *Provider
	bestRank := 0
	for _, p := range s.index.packages {
		able := map[string]string{} // versions by name
		for _, b := range p.bundles {
			if (s.lacks == nil || !s.lacks(p.name, b.name)) && c.met(candidate{p.name, b.version, apis[b.props]}) {
				able[b.name] = b.version
			}
		}
		if len(able) == 0 {
			continue
		}
		for _, channel := range p.channels {
			name, isHead := channel.best(able)
			if name == "" {
				continue
			}
			rank := 1
			if isHead {
				rank += 1
			}
			if channel.name == p.defaultChannel() {
				rank += 2
			}
			if rank > bestRank {
				best, bestRank = &Provider{p.name, channel.name, name, able[name]}, rank
			}
		}
	}
	return &supply{best, false}
}

// best returns the highest version of a channel that is able, and whether it is the head.
func (c channel) best(able map[string]string) (name string, isHead bool) {
	for _, e := range c.entries {
		if version, ok := able[e.Name]; ok && (name == "" || newerText(version, able[name])) {
			name = e.Name
		}
	}
	if name == "" {
		return "", false
	}
	heads := newGraph(c.entries).heads(everything)
	if len(heads) == 1 {
		if _, ok := able[heads[0]]; ok {
			return heads[0], true
		}
	}
	return name, false
}

func (p *part) channelOf(bundle string) string {
	for _, c := range p.channels {
		if slices.ContainsFunc(c.entries, func(e entry) bool { return e.Name == bundle && c.keep(bundle) }) {
			return c.name
		}
	}
	return ""
}

// Follow adds to the selection what its bundles require, what that requires, and so on. It returns
// what was added, each with the dependency that it was added for. What the catalog does not
// provide is in a warning.
func (s *Selection) Follow() []Dependency {
	var added []Dependency
	asked := slices.Clone(s.parts)
	for {
		var next []Dependency
		for _, d := range s.Dependencies() {
			if d.Provider == nil || d.Selected {
				continue
			}
			if s.has(*d.Provider) || s.add(*d.Provider) {
				next = append(next, d)
			}
		}
		if len(next) == 0 {
			break
		}
		added = append(added, next...)
	}
	s.dropFaulty(asked)
	added = slices.DeleteFunc(added, func(d Dependency) bool { return !s.has(*d.Provider) })
	for _, d := range s.Dependencies() {
		if !d.Selected {
			s.warn(Warning{Package: d.Package, Bundle: d.Bundle, Version: d.Version, Text: d.String()})
		}
	}
	s.describe()
	return added
}

// dropFaulty takes out packages for which OLM would refuse the whole catalog, but those that were asked
// for.
func (s *Selection) dropFaulty(asked []*part) {
	s.parts = slices.DeleteFunc(s.parts, func(p *part) bool {
		if slices.Contains(asked, p) {
			return false
		}
		faults := p.faults()
		for _, f := range faults {
			s.warn(Warning{Package: p.pack.name, Channel: f.channel, Bundle: f.bundle, Version: p.versionText(f.bundle),
				Text: fmt.Sprintf("package %q, which others require, is not added: %s, and OLM refuses a whole catalog for that", p.pack.name, f.text)})
		}
		return len(faults) > 0
	})
}

func (s *Selection) has(p Provider) bool {
	return slices.ContainsFunc(s.parts, func(have *part) bool {
		return have.pack.name == p.Package && slices.ContainsFunc(have.bundles, func(b bundle) bool { return b.name == p.Bundle })
	})
}

// add adds a bundle in a channel, and the upgrade path between it and what is kept of the channel.
// It reports whether the bundle could be added.
func (s *Selection) add(what Provider) bool {
	i := slices.IndexFunc(s.parts, func(p *part) bool { return p.pack.name == what.Package })
	if i < 0 {
		p := &part{
			selection: s, pack: s.index.pack(what.Package), config: imageset.Package{Name: what.Package}, lacks: s.lacks,
		}
		_ = p.readVersions() // what has no version is not chosen
		p.defaultChannel = what.Channel
		s.parts = append(s.parts, p)
		i = len(s.parts) - 1
	}
	p := s.parts[i]
	at := slices.IndexFunc(p.channels, func(c keptChannel) bool { return c.name == what.Channel })
	if at < 0 {
		p.channels = append(p.channels, keptChannel{channel: p.pack.channel(what.Channel), kept: map[string]bool{what.Bundle: true}})
		slices.SortFunc(p.channels, func(a, b keptChannel) int { return strings.Compare(a.name, b.name) })
	} else if !p.widen(&p.channels[at], what.Bundle) {
		return false
	}
	if own := p.pack.defaultChannel(); p.config.DefaultChannel == "" && slices.ContainsFunc(p.channels, func(c keptChannel) bool { return c.name == own }) {
		p.defaultChannel = own
	}
	p.bundles = nil
	p.takeBundles()
	return true
}

// widen adds a bundle to what is kept of a channel.
func (p *part) widen(c *keptChannel, bundle string) bool {
	g := newGraph(c.entries)
	head, err := g.head()
	if err != nil || c.kept == nil {
		return false
	}
	there := func(name string) bool { return !p.absent(name) }
	kept := g.path(head, there, func(nodes []entry, in func(string) bool) map[string]bool {
		return g.within(nodes, func(name string) bool { return in(name) && (c.kept[name] || name == bundle) })
	})
	if !kept[bundle] {
		return false
	}
	for name := range c.kept {
		if !kept[name] {
			return false
		}
	}
	c.kept = kept
	return true
}

func (p *pack) channel(name string) channel {
	i := slices.IndexFunc(p.channels, func(c channel) bool { return c.name == name })
	return p.channels[i]
}
