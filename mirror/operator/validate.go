package operator

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// validate looks for what opm refuses a catalog for. What is found is a fault of the catalog that
// was read, which a filter keeps: a selection of a catalog without faults has none.
func (s *Selection) validate() {
	if s.whole {
		return
	}
	for _, p := range s.parts {
		for _, f := range p.faults() {
			s.refuse(p.pack.name, f.text)
			s.warn(Warning{Package: p.pack.name, Channel: f.channel, Bundle: f.bundle, Version: p.versionText(f.bundle),
				Text: fmt.Sprintf("package %q: %s; the catalog that was read has this fault, and OLM refuses the whole catalog for it", p.pack.name, f.text)})
		}
	}
}

// refuse notes a fault of a package for which OLM refuses a whole catalog.
func (s *Selection) refuse(pkg, fault string) {
	if s.refused[pkg] != nil { // the first is enough
		return
	}
	if s.refused == nil {
		s.refused = map[string]error{}
	}
	s.refused[pkg] = hint.New(fmt.Errorf("package %q: %s; OLM refuses a whole catalog for that, so the package is left out", pkg, fault),
		"tell the publisher of the catalog, or leave the package out of the image set")
}

// Refused returns the packages of the catalog with faults for which OLM refuses every package of a
// catalog, each with the first of its faults. The selection has them as the catalog does, but those
// without a channel, of which nothing is left.
func (s *Selection) Refused() map[string]error { return s.refused }

func (p *part) versionText(bundle string) string {
	if v := p.versions[bundle]; v != nil {
		return v.Original()
	}
	return ""
}

// dnsLabel is a label of RFC 1123, which the name of a package must be.
var dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

type fault struct{ channel, bundle, text string }

func (p *part) faults() []fault {
	var found []fault
	add := func(channel, bundle, format string, args ...any) {
		found = append(found, fault{channel, bundle, fmt.Sprintf(format, args...)})
	}
	if !dnsLabel.MatchString(p.pack.name) {
		add("", "", "its name is not one that clusters take: 1 to 63 lower case letters, digits and -, as in RFC 1123")
	}
	switch {
	case len(p.pack.blobs) == 0:
		add("", "", "it has no olm.package")
	case len(p.pack.blobs) > 1:
		add("", "", "it has %d of olm.package", len(p.pack.blobs))
	case p.defaultChannel == "":
		add("", "", "it has no default channel")
	case !slices.ContainsFunc(p.channels, func(c keptChannel) bool { return c.name == p.defaultChannel }):
		add(p.defaultChannel, "", "its default channel %q does not exist", p.defaultChannel)
	}
	for i, c := range p.channels {
		if i > 0 && p.channels[i-1].name == c.name {
			add(c.name, "", "it has channel %q twice", c.name)
		}
	}
	bundles, listed := map[string]bool{}, map[string]bool{}
	for _, b := range p.bundles {
		if bundles[b.name] {
			add("", b.name, "it has bundle %q twice", b.name)
		}
		if b.version == "" {
			add("", b.name, "bundle %q has no version", b.name)
		}
		bundles[b.name] = true
	}
	for _, c := range p.channels {
		for _, text := range p.channelFaults(c, bundles, listed) {
			add(c.name, "", "channel %q: %s", c.name, text)
		}
	}
	for _, b := range p.bundles {
		if !listed[b.name] {
			add("", b.name, "bundle %q is in no channel", b.name)
		}
	}
	return found
}

// channelFaults returns the faults of one channel, and adds to listed what it lists.
func (p *part) channelFaults(c keptChannel, bundles, listed map[string]bool) []string {
	var found []string
	var entries []entry
	for _, e := range c.entries {
		if c.keep(e.Name) {
			entries = append(entries, e)
		}
	}
	g := newGraph(entries)
	for _, e := range entries {
		listed[e.Name] = true
		if !bundles[e.Name] {
			found = append(found, fmt.Sprintf("entry %q has no bundle", e.Name))
		}
	}
	head, err := g.head()
	if err != nil {
		return append(found, strings.ReplaceAll(err.Error(), "\n", ", "))
	}
	for _, name := range g.stranded(head, everything) {
		found = append(found, fmt.Sprintf("no upgrade path leads to or from entry %q", name))
	}
	return found
}
