package cluster

import "slices"

// An appliance serves mirror sets that lead to itself alone. Those of a cluster with several mirrors have names of
// their own, so that what the appliance serves, applied later, takes no mirror away: a cluster joins the mirrors
// of all sets about a source, and keeps their order.
const (
	alsoSuffix = "-also"
	ownDigests = "idms" + alsoSuffix
	ownTags    = "itms" + alsoSuffix
)

// addOthers puts the same place at each other registry behind each mirror at the first. Images that are named by
// the first registry itself, as those of catalogs and of the graph are, get entries as well: a mirror is
// asked before the source of its entry, so that the source is its own first mirror.
func (m *mirrors) addOthers(registries []string) {
	if len(registries) < 2 {
		return
	}
	first, others := registries[0], registries[1:]
	extend := func(all []entry) {
		for n := range all {
			var places []string
			for _, mirror := range all[n].mirrors {
				places = append(places, mirror)
				rest, ok := below(mirror, first)
				for _, other := range others {
					if ok {
						places = append(places, other+rest)
					}
				}
			}
			all[n].mirrors = places
		}
	}
	for _, sets := range [][]set{m.digests, m.tags} {
		for n := range sets {
			extend(sets[n].entries)
			sets[n].name += alsoSuffix
		}
	}
	extend(m.install)
	own := []entry{{first, registries}}
	m.digests = append(m.digests, set{ownDigests, own})
	m.tags = append(m.tags, set{ownTags, slices.Clone(own)})
}

// addresses returns the names of all registries, the first one's first.
func (f Facts) addresses() (all []string) {
	for _, r := range f.Registries {
		all = append(all, r.Address)
	}
	return all
}

// never reports whether nodes must not ask a source. A registry that is a mirror has to be asked, also for
// images that are named by it: a runtime that blocks a name does so for mirrors too.
func (f Facts) never(source string) bool {
	return f.NeverContactSource && source != f.first().Address
}
