package imageset

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// HeldOperator is an operator catalog that a registry has.
type HeldOperator struct {
	Operator
	Notes []string // comments
	// Versions that the registry has, by package and channel.
	Versions map[string]map[string][]string
}

func (w *writer) operators(all []HeldOperator) {
	if len(all) == 0 {
		return
	}
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b HeldOperator) int {
		return cmp.Or(a.compare(b), cmp.Compare(a.text(), b.text()))
	})
	w.line(1, "operators:")
	for n, o := range all {
		if n == 0 || o.compare(all[n-1]) != 0 {
			w.WriteString(o.text())
		} else if o.text() != all[n-1].text() { // an image set has one of them
			w.comment(1, "not in here: catalog "+o.Catalog+" once more, with other content below another path")
		}
	}
}

// compare orders catalogs by the place that their entries give them.
func (o HeldOperator) compare(b HeldOperator) int {
	return cmp.Or(cmp.Compare(o.Catalog, b.Catalog), cmp.Compare(o.TargetCatalog, b.TargetCatalog), cmp.Compare(o.TargetTag, b.TargetTag))
}

// text returns the entry of a catalog.
func (o HeldOperator) text() string {
	w := &writer{}
	for _, note := range o.Notes {
		w.comment(1, note)
	}
	w.line(1, "- catalog: %s", scalar(o.Catalog))
	w.optional(1, "targetCatalog", o.TargetCatalog)
	w.optional(1, "targetTag", o.TargetTag)
	w.platforms(o.Platforms)
	if o.Full {
		w.line(1, "  full: true")
		return w.String()
	}
	w.line(1, "  packages:")
	for _, p := range o.Packages {
		w.line(1, "  - name: %s", scalar(p.Name))
		w.optional(2, "defaultChannel", p.DefaultChannel)
		if len(p.Channels) > 0 {
			w.line(2, "  channels:")
		}
		for _, c := range p.Channels {
			if held := o.Versions[p.Name][c.Name]; len(held) > 0 {
				w.comment(3, "held: "+strings.Join(held, ", "))
			}
			w.line(3, "- name: %s", scalar(c.Name))
			w.optional(3, "minVersion", c.MinVersion)
			w.optional(3, "maxVersion", c.MaxVersion)
		}
	}
	return w.String()
}

// optional writes a key of an entry of a list, unless its value is empty.
func (w *writer) optional(depth int, key, value string) {
	if value != "" {
		w.line(depth, "  %s: %s", key, scalar(value))
	}
}

func (w *writer) platforms(all []OSArch) {
	if len(all) > 0 {
		w.line(1, "  platforms:")
	}
	for _, p := range all {
		w.line(1, "  - {os: %s, architecture: %s}", scalar(p.OS), scalar(p.Architecture))
	}
}

// beyond names the releases that a channel asks for, from its lowest version to its highest, and that a
// registry does not have: all channels are for all architectures.
func (c channel) beyond(architectures []string) (all []string) {
	held := map[string]bool{}
	for _, r := range c.releases {
		held[fmt.Sprint(r.Version, r.Architecture)] = true
	}
	for _, r := range c.releases {
		for _, a := range architectures {
			if text := fmt.Sprintf("%s (%s)", r.Version, a); !held[fmt.Sprint(r.Version, a)] && !slices.Contains(all, text) {
				all = append(all, text)
			}
		}
	}
	return all
}
