package operator

import (
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// choices returns what is asked for of a channel, whether it is all there or not.
func (p *part) choices(c channel) (keptChannel, error) {
	k := keptChannel{channel: c}
	r, err := p.boundsOf(c)
	if err != nil {
		return k, fmt.Errorf("package %q channel %q: %w", p.pack.name, c.name, err)
	}
	g := newGraph(c.entries)
	k.asked = r
	switch {
	case r.absent:
		return k, nil
	case p.full:
		k.kept = all(c.entries)
		return k, nil
	case len(p.config.Bundles) > 0:
		k.kept, err = p.named(c, g)
		return k, err
	case r.exact():
		k.kept, err = p.exactly(g, r.min)
		return k, err
	}
	head, err := g.head()
	if err != nil {
		return k, hint.New(fmt.Errorf("package %q channel %q unable to filter head of channel: %w", p.pack.name, c.name, err),
			p.doOtherwise())
	}
	if r.none() {
		r.from = p.start(c, head)
		k.asked = r
	}
	if r.none() {
		k.kept = map[string]bool{head: true}
		return k, nil
	}
	k.kept = g.path(head, everything, func(nodes []entry, in func(string) bool) map[string]bool {
		return g.within(nodes, func(name string) bool { return in(name) && r.has(p.versions[name]) })
	})
	p.warnOutside(c, k.kept, r)
	return k, nil
}

// doOtherwise is a hint for a channel with a fault.
func (p *part) doOtherwise() string {
	const tell = "tell the publisher of the catalog"
	if p.listed && len(p.pack.channels) > 1 {
		return tell + ", or list the package's other channels in the image set"
	}
	return tell + "; full: true without packages mirrors the catalog as it is"
}

func everything(string) bool { return true }

func all(entries []entry) map[string]bool {
	names := map[string]bool{}
	for _, e := range entries {
		names[e.Name] = true
	}
	return names
}

// exactly returns the one entry with a version, or none, where another channel has it. Of several
// that differ in build metadata it is the one that is written alike, else the nearest to the head.
func (p *part) exactly(g *graph, version string) (map[string]bool, error) {
	want, err := semver.NewVersion(version)
	if err != nil {
		return nil, err
	}
	var alike, equal, gone []string
	for _, b := range p.pack.bundles {
		v := p.versions[b.name]
		switch {
		case v == nil || !v.Equal(want):
		case p.absent(b.name):
			gone = append(gone, b.name)
		case b.version == version:
			alike = append(alike, b.name)
			fallthrough
		default:
			equal = append(equal, b.name)
		}
	}
	if len(equal)+len(gone) == 0 {
		return nil, hint.New(fmt.Errorf("package %q: specific version %s not found in bundles", p.pack.name, version),
			"it has "+p.versionList())
	}
	for _, found := range [][]string{alike, equal, gone} {
		found = slices.DeleteFunc(slices.Clone(found), func(name string) bool { _, ok := g.at[name]; return !ok })
		if len(found) == 0 {
			continue
		}
		name := g.nearest(found)
		if err := g.entries[g.at[name]].leadsToItself(); err != nil {
			return nil, hint.New(fmt.Errorf("package %q: version %s alone leaves a channel without a head: %w", p.pack.name, version, err),
				"ask for another version as well, or list the package's other channels")
		}
		return map[string]bool{name: true}, nil
	}
	return nil, nil
}

// versionList returns the versions of a package, the highest first, for a hint.
func (p *part) versionList() string {
	const most = 20
	var versions []*semver.Version
	for _, v := range p.versions {
		versions = append(versions, v)
	}
	slices.SortFunc(versions, func(a, b *semver.Version) int {
		if c := b.Compare(a); c != 0 {
			return c
		}
		return strings.Compare(a.Original(), b.Original())
	})
	var texts []string
	for _, v := range versions {
		if len(texts) == most {
			texts = append(texts, "…")
			break
		}
		if t := v.Original(); !slices.Contains(texts, t) {
			texts = append(texts, t)
		}
	}
	if len(texts) == 0 {
		return "no versions"
	}
	return strings.Join(texts, ", ")
}

// named returns the entries that the image set names one by one. They must leave one head.
func (p *part) named(c channel, g *graph) (map[string]bool, error) {
	kept := map[string]bool{}
	for _, b := range p.config.Bundles {
		if _, ok := g.at[b.Name]; ok {
			kept[b.Name] = true
		}
	}
	if len(kept) == 0 {
		return nil, nil
	}
	if heads := g.heads(func(name string) bool { return kept[name] }); len(heads) != 1 {
		fault := "no channel heads found"
		if len(heads) > 1 {
			fault = fmt.Sprintf("multiple channel heads found: %v", heads)
		}
		return nil, hint.New(fmt.Errorf("filtering on the selected bundles leads to invalidating channel %q for package %q: %s", c.name, p.pack.name, fault),
			"name the bundles between them as well")
	}
	return kept, nil
}

// handleEmptied decides what it means that nothing is left of some channels.
func (p *part) handleEmptied(emptied []keptChannel) error {
	p.warnUnknownBundles()
	for _, c := range emptied {
		if c.name != p.defaultChannel {
			p.warn(c.name, "", "channel %q of package %q is left out: it has nothing that is asked for", c.name, p.pack.name)
			continue
		}
		if (c.asked.exact() || c.asked.absent) && p.config.DefaultChannel == "" && len(p.channels) == 1 {
			p.defaultChannel = p.channels[0].name
			p.warn(c.name, "", "channel %q, the default of package %q, does not have %s: channel %q becomes the default",
				c.name, p.pack.name, c.asked.lowest(), p.defaultChannel)
			continue
		}
		var left []channel
		for _, k := range p.channels {
			left = append(left, k.channel)
		}
		do := "set defaultChannel to one of those that have bundles in the range: " + channelNames(left)
		if len(left) == 0 {
			do = "the package has the versions " + p.versionList()
		}
		if c.asked.absent {
			return hint.New(fmt.Errorf("package %q channel %q, the default, does not have %s", p.pack.name, c.name, c.asked.lowest()), do)
		}
		return hint.New(fmt.Errorf("package %q channel %q has version range %q that results in an empty channel", p.pack.name, c.name, c.asked), do)
	}
	return nil
}

func (p *part) warnUnknownBundles() {
	for _, b := range p.config.Bundles {
		if !slices.ContainsFunc(p.pack.bundles, func(have bundle) bool { return have.name == b.Name }) {
			p.warn("", b.Name, "package %q has no bundle %q", p.pack.name, b.Name)
		}
	}
}

// warnOutside names the entries that are kept although they are not in the range.
func (p *part) warnOutside(c channel, kept map[string]bool, r bounds) {
	for _, e := range c.entries {
		v := p.versions[e.Name]
		switch {
		case !kept[e.Name] || r.has(v):
		case v == nil:
			p.warn(c.name, e.Name, "package %q channel %q: including bundle %q: it has no version, but the upgrade path between bundles in the range leads through it", p.pack.name, c.name, e.Name)
		default:
			p.warn(c.name, e.Name, "package %q channel %q: including bundle %q with version %q: it falls outside the specified range of %q, but the upgrade path to or from bundles in the range leads through it",
				p.pack.name, c.name, e.Name, v.Original(), r)
		}
	}
}
