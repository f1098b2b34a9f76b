package cluster

import (
	"slices"
	"strings"
)

// Source is where nodes read the images of a source: a registry, a namespace or a repository.
type Source struct {
	Source       string   `json:"source"`
	Mirrors      []string `json:"mirrors"`                // in the order in which they are asked
	NeverContact bool     `json:"neverContact,omitempty"` // the source itself is not asked
}

// Sources are all that nodes have.
type Sources []Source

// Of returns the entry for an image: the one with the longest name.
func (all Sources) Of(image string) (best Source, ok bool) {
	for _, s := range all {
		rest, found := strings.CutPrefix(image, s.Source)
		if len(s.Mirrors) > 0 && found && (rest == "" || strings.ContainsRune("/:@", rune(rest[0]))) && (!ok || len(s.Source) > len(best.Source)) {
			best, ok = s, true
		}
	}
	return best, ok
}

// Places returns the names of the repositories at mirrors in which a repository of a source is read,
// in order; none: no entry is about it.
func (all Sources) Places(repository string) (places []string) {
	source, _ := all.Of(repository)
	for _, m := range source.Mirrors {
		places = append(places, m+strings.TrimPrefix(repository, source.Source))
	}
	return places
}

// Beside returns the places of a repository that is named at a mirror: those of the source that leads to it,
// in order; none: no entry does.
func (all Sources) Beside(repository string) []string {
	for _, s := range all {
		for _, m := range s.Mirrors {
			rest, ok := below(repository, m)
			if !ok {
				continue
			}
			var places []string
			for _, mirror := range s.Mirrors {
				places = append(places, mirror+rest)
			}
			return places
		}
	}
	return nil
}

// Repositories returns the repositories of a registry in which a repository is read, in the order in which they
// are asked. One of that registry itself is read there.
func (all Sources) Repositories(registry, name string) (found []string) {
	if repository, ok := strings.CutPrefix(name, registry+"/"); ok {
		return []string{repository}
	}
	for _, p := range all.Places(name) {
		if repository, ok := strings.CutPrefix(p, registry+"/"); ok && !slices.Contains(found, repository) {
			found = append(found, repository)
		}
	}
	return found
}

// Sources returns where nodes read images by digest, as the files of Render say it: while they are
// installed, and once they run.
func (f Facts) Sources() (installing, running Sources, err error) {
	m, err := f.mirrors()
	if err != nil {
		return nil, nil, err
	}
	for _, e := range m.install {
		installing = append(installing, Source{e.source, e.mirrors, f.NeverContactSource && f.Version.sourcePolicy()})
	}
	for _, s := range m.digests {
		for _, e := range s.entries {
			running = running.Add(Source{e.source, e.mirrors, f.never(e.source)})
		}
	}
	return installing, running, nil
}

// Add adds an entry; of a source that is there its mirrors, as nodes join several sets.
func (all Sources) Add(s Source) Sources {
	at := slices.IndexFunc(all, func(other Source) bool { return other.Source == s.Source })
	if at < 0 {
		s.Mirrors = slices.Clone(s.Mirrors)
		return append(all, s)
	}
	for _, m := range s.Mirrors {
		if !slices.Contains(all[at].Mirrors, m) {
			all[at].Mirrors = append(all[at].Mirrors, m)
		}
	}
	all[at].NeverContact = all[at].NeverContact || s.NeverContact
	return all
}
