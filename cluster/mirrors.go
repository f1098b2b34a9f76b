package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/resources"
)

// entry is where images of a source are read: registry and repository, a namespace, or a registry.
type entry struct {
	source  string
	mirrors []string // in the order in which they are asked
}

// set is a document of mirrors, by digest or by tag.
type set struct {
	name    string
	entries []entry
}

// mirrors are the entries of all kinds.
type mirrors struct {
	digests, tags []set
	// install are those by which a cluster is installed, one for each repository.
	install []entry
}

const (
	digestKind = "ImageDigestMirrorSet"
	tagKind    = "ImageTagMirrorSet"
	// releaseSet is the name of the document of releases among the resources.
	releaseSet = "idms-release"
)

// mirrors returns the entries of mirrored images and of upstreams, together. A
// source that both serve has the mirrored images first, since an entry hides those of the
// namespaces above it.
func (f Facts) mirrors() (*mirrors, error) {
	m := &mirrors{}
	if err := m.read(f.Resources); err != nil {
		return nil, err
	}
	if err := m.check(f.first().Address); err != nil {
		return nil, err
	}
	for n := range m.digests {
		m.digests[n].addComponentsOf5(f.Version)
		if strings.HasPrefix(m.digests[n].name, releaseSet) {
			m.install = append(m.install, m.digests[n].clone()...)
		}
	}
	through := f.through()
	m.addThrough(through)
	for _, repository := range f.Version.releaseRepositories() {
		if mirror := through.of(repository); mirror != "" {
			m.install = add(m.install, repository, mirror)
		}
	}
	slices.SortFunc(m.install, func(a, b entry) int { return strings.Compare(a.source, b.source) })
	m.addOthers(f.addresses())
	return m, nil
}

// check returns an error for resources that lead to another registry than the one that is named:
// clusters verify the certificate by that name, and look for the login by it.
func (m *mirrors) check(registry string) error {
	for _, s := range slices.Concat(m.digests, m.tags) {
		for _, e := range s.entries {
			for _, mirror := range e.mirrors {
				if _, ok := below(mirror, registry); !ok {
					host, _, _ := strings.Cut(mirror, "/")
					return hint.New(fmt.Errorf("the appliance calls itself %s, and is named %s", host, registry),
						"name it docker://"+host+", or correct hostname: and port: in its config.yaml")
				}
			}
		}
	}
	return nil
}

// read reads the mirror sets among resources.
func (m *mirrors) read(files []resources.File) error {
	for _, file := range files {
		if !strings.HasSuffix(file.Name, ".yaml") {
			continue
		}
		for d := yaml.NewDecoder(bytes.NewReader(file.Data)); ; {
			var doc struct {
				Kind     string
				Metadata struct{ Name string }
				Spec     struct {
					ByDigest []readEntry `yaml:"imageDigestMirrors"`
					ByTag    []readEntry `yaml:"imageTagMirrors"`
				}
			}
			if err := d.Decode(&doc); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return fmt.Errorf("the cluster resource %s of the appliance: %w", file.Name, err)
			}
			switch doc.Kind {
			case digestKind:
				m.digests = append(m.digests, set{doc.Metadata.Name, entriesOf(doc.Spec.ByDigest)})
			case tagKind:
				m.tags = append(m.tags, set{doc.Metadata.Name, entriesOf(doc.Spec.ByTag)})
			}
		}
	}
	return nil
}

type readEntry struct {
	Source  string
	Mirrors []string
}

func entriesOf(read []readEntry) (all []entry) {
	for _, r := range read {
		all = append(all, entry{r.Source, r.Mirrors})
	}
	return all
}

func (s set) clone() (all []entry) {
	for _, e := range s.entries {
		all = append(all, entry{e.source, slices.Clone(e.mirrors)})
	}
	return all
}

// addComponentsOf5 adds the second name that payloads of version 5 give to components.
func (s *set) addComponentsOf5(v Version) {
	if !v.from(5, 0) {
		return
	}
	at := slices.IndexFunc(s.entries, func(e entry) bool { return e.source == componentsOf4 })
	if at < 0 {
		return
	}
	for _, mirror := range slices.Clone(s.entries[at].mirrors) {
		s.entries = add(s.entries, componentsOf5, mirror)
	}
}

// add adds a mirror of a source, after those that it has.
func add(all []entry, source, mirror string) []entry {
	at := slices.IndexFunc(all, func(e entry) bool { return e.source == source })
	if at < 0 {
		return append(all, entry{source, []string{mirror}})
	}
	if !slices.Contains(all[at].mirrors, mirror) {
		all[at].mirrors = append(all[at].mirrors, mirror)
	}
	return all
}

// pulled are the upstreams as entries, each with one mirror.
type pulled []entry

// Pulled reports whether an upstream fetches releases of the vendor that the appliance has not.
func Pulled(upstreams []Upstream) bool {
	f := Facts{Registries: make([]Registry, 1)}
	for _, u := range upstreams {
		if !u.HeldOnly {
			f.Upstreams = append(f.Upstreams, u)
		}
	}
	return f.through().of(Version{}.releaseRepositories()[0]) != ""
}

// through returns what the upstreams of the first appliance serve.
func (f Facts) through() (all pulled) {
	for _, u := range f.Upstreams {
		mirror := f.first().Address + "/" + u.Prefix
		names := image.NamesThrough(u.Prefix, u.URL)
		if standsFor(u.Prefix, names[0]) && !slices.Contains(names, u.Prefix) {
			names = append(names, u.Prefix)
		}
		for _, source := range names {
			all = add(all, source, mirror)
		}
	}
	return all
}

// standsFor reports whether a prefix is the name of a registry, or of a namespace of it, whose images the
// upstream, named otherwise, has in its stead: a proxy of that registry, say. An upstream that is a
// namespace of that registry itself has others of its images there.
func standsFor(prefix, upstream string) bool {
	registry, _, _ := strings.Cut(prefix, "/")
	host, _, _ := strings.Cut(upstream, "/")
	top := registry[strings.LastIndexByte(registry, '.')+1:]
	return top != registry && strings.Trim(top, "0123456789") != "" && !strings.EqualFold(host, registry)
}

// of returns the mirror of a source by the longest entry that covers it, "" if none does.
func (p pulled) of(source string) string {
	longest, mirror := -1, ""
	for _, e := range p {
		if rest, ok := below(source, e.source); ok && len(e.source) > longest {
			longest, mirror = len(e.source), e.mirrors[0]+rest
		}
	}
	return mirror
}

// below returns the rest of a name whose beginning is another, with its slash.
func below(name, beginning string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(name, beginning)
	return rest, ok && (rest == "" || rest[0] == '/')
}

// addThrough adds the upstreams: to the sources that were mirrored, by digest and by tag,
// and as sources of its own.
func (m *mirrors) addThrough(through pulled) {
	if len(through) == 0 {
		return
	}
	var sources []string
	for _, s := range slices.Concat(m.digests, m.tags) {
		for _, e := range s.entries {
			sources = append(sources, e.source)
		}
	}
	for _, e := range through {
		sources = append(sources, e.source)
	}
	slices.Sort(sources)
	sources = slices.Compact(sources)
	for _, kind := range []struct {
		sets *[]set
		name string
	}{{&m.digests, "idms-upstreams-0"}, {&m.tags, "itms-upstreams-0"}} {
		own := set{name: kind.name}
		for _, source := range sources {
			mirror := through.of(source)
			if mirror != "" && !addTo(*kind.sets, source, mirror) {
				own.entries = add(own.entries, source, mirror)
			}
		}
		if len(own.entries) > 0 {
			*kind.sets = append(*kind.sets, own)
		}
	}
}

// addTo adds a mirror to a source in each set that has it, and reports whether one has.
func addTo(sets []set, source, mirror string) (found bool) {
	for n := range sets {
		if slices.ContainsFunc(sets[n].entries, func(e entry) bool { return e.source == source }) {
			sets[n].entries, found = add(sets[n].entries, source, mirror), true
		}
	}
	return found
}

// ReleaseRepositories returns the repositories of a registry that have releases or their
// components, by the cluster resources that it serves.
func ReleaseRepositories(files []resources.File, registry string) (all []string, err error) {
	m := &mirrors{}
	if err := m.read(files); err != nil {
		return nil, err
	}
	if err := m.check(registry); err != nil {
		return nil, err
	}
	for _, s := range m.digests {
		if !strings.HasPrefix(s.name, releaseSet) {
			continue
		}
		for _, e := range s.entries {
			for _, mirror := range e.mirrors {
				if rest, ok := below(mirror, registry); ok && !slices.Contains(all, strings.TrimPrefix(rest, "/")) {
					all = append(all, strings.TrimPrefix(rest, "/"))
				}
			}
		}
	}
	return all, nil
}

// releaseAt returns the repository of the vendor's releases at a registry, "" if it has none.
func (m *mirrors) releaseAt(registry string) string {
	for _, e := range m.install {
		if e.source != (Version{}).releaseRepositories()[0] {
			continue
		}
		for _, mirror := range e.mirrors {
			if rest, ok := below(mirror, registry); ok {
				return strings.TrimPrefix(rest, "/")
			}
		}
	}
	return ""
}

// Mirrors reports whether a file of mirror sets leads from a source to a mirror, by itself or by an entry
// above it.
func Mirrors(file []byte, source, mirror string) bool {
	var m mirrors
	if err := m.read([]resources.File{{Name: "mirrors.yaml", Data: file}}); err != nil {
		return false
	}
	for _, s := range m.digests {
		for _, e := range s.entries {
			rest, ok := below(source, e.source)
			if ok && slices.ContainsFunc(e.mirrors, func(m string) bool { return m+rest == mirror }) {
				return true
			}
		}
	}
	return false
}

// MirrorRegistries returns the registries to which a file of mirror sets leads, each once.
func MirrorRegistries(file []byte) (all []string) {
	var m mirrors
	if m.read([]resources.File{{Name: "mirrors.yaml", Data: file}}) != nil {
		return nil
	}
	for _, s := range m.digests {
		for _, e := range s.entries {
			for _, mirror := range e.mirrors {
				host, _, _ := strings.Cut(mirror, "/")
				all = append(all, host)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
