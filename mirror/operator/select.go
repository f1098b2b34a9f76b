package operator

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// Selection is what an operator entry of an image set leaves of a catalog.
type Selection struct {
	// Warnings name what was asked for and is not there, and what is left out or kept otherwise
	// than asked.
	Warnings []Warning
	Packages []Package // by name
	Bundles  []Bundle  // by package and name

	index   *Index
	parts   []*part
	refused map[string]error // by package
	// starts is Operator.Starts.
	starts map[string]map[string]string
	whole  bool
	lacks  func(pkg, bundle string) bool
}

// Package is one package of a selection.
type Package struct {
	Name           string
	DefaultChannel string
	Channels       []Channel // by name
}

// Channel is one channel of a selection.
type Channel struct {
	Name    string
	Head    string  // "" if the channel does not have one head
	Entries []Entry // in the order of the catalog
}

// Entry is an entry of a channel, as the catalog has it.
type Entry struct {
	Name, Replaces, SkipRange string
	Skips                     []string
}

// Bundle is a bundle of a selection.
type Bundle struct{ Package, Name, Version string }

// Warning is about a package of the catalog, and perhaps about a channel and a bundle of it.
type Warning struct {
	Package, Channel, Bundle, Version string
	Text                              string // a sentence that names them too
}

// String returns the text.
func (w Warning) String() string { return w.Text }

// Whole reports whether the catalog is wanted as it is, so that nothing is written anew.
func (s *Selection) Whole() bool { return s.whole }

// Select returns what ask leaves of the catalog. lacks, nil for none, reports bundles that are as
// if they were not there: it is asked about every bundle of the packages, so that the caller that
// has fetched only some says so of the others. A channel keeps its newest head that is there, and
// what is connected to it; each bundle that this costs is in a warning.
//
// An error means that there is no catalog that the entry can mean.
func (x *Index) Select(ask imageset.Operator, lacks func(pkg, bundle string) bool) (*Selection, error) {
	if err := checkAsk(ask); err != nil {
		return nil, err
	}
	s := &Selection{index: x, starts: ask.Starts, whole: ask.Full && len(ask.Packages) == 0, lacks: lacks}
	configs := ask.Packages
	if len(configs) == 0 {
		for _, p := range x.packages {
			configs = append(configs, imageset.Package{Name: p.name})
		}
	}
	for _, config := range configs {
		if x.pack(config.Name) == nil {
			s.warn(Warning{Package: config.Name, Text: fmt.Sprintf("package %q does not exist in the catalog", config.Name)})
			continue
		}
		p := &part{
			selection: s, pack: x.pack(config.Name), config: config,
			full: ask.Full, listed: len(ask.Packages) > 0, asIs: s.whole, lacks: lacks,
		}
		if err := p.choose(); err != nil {
			return nil, err
		}
		switch {
		case len(p.bundles) > 0 || len(p.channels) > 0:
			s.parts = append(s.parts, p)
		case len(p.pack.channels) == 0:
			s.refuse(config.Name, "it has no channel")
		}
	}
	if len(s.parts) == 0 {
		return nil, s.nothing(configs)
	}
	s.describe()
	s.validate()
	return s, nil
}

func (s *Selection) warn(w Warning) { s.Warnings = append(s.Warnings, w) }

// ErrNothing is the error of a selection that has no package.
var ErrNothing = errors.New("nothing of the catalog is left")

// nothing returns the error of a selection that has no package.
func (s *Selection) nothing(configs []imageset.Package) error {
	if len(configs) == 0 {
		return hint.New(errors.New("the catalog has no packages"), "opm render shows what a catalog has")
	}
	err := ErrNothing
	if len(s.Warnings)+len(s.refused) > 0 {
		var texts []string
		for _, w := range s.Warnings {
			texts = append(texts, w.Text)
		}
		for _, pkg := range slices.Sorted(maps.Keys(s.refused)) {
			texts = append(texts, s.refused[pkg].Error())
		}
		err = fmt.Errorf("%w: %s", ErrNothing, strings.Join(texts, "; "))
	}
	return hint.New(err, "appliance mirror list operators --catalog CATALOG shows its packages")
}

// checkAsk checks what imageset checks as well: an entry may come from elsewhere.
func checkAsk(ask imageset.Operator) error {
	seen := map[string]bool{}
	for i, p := range ask.Packages {
		if seen[p.Name] {
			return fmt.Errorf("duplicate package entry %q", p.Name)
		}
		seen[p.Name] = true
		ranged := p.MinVersion != "" || p.MaxVersion != ""
		inChannels := slices.ContainsFunc(p.Channels, func(c imageset.PackageChannel) bool {
			return c.MinVersion != "" || c.MaxVersion != ""
		})
		switch {
		case len(p.Bundles) > 0 && (ranged || len(p.Channels) > 0):
			return fmt.Errorf("package %q at index [%d] is invalid: mixing both filtering by bundles and filtering by channels or versionRange is not allowed", p.Name, i)
		case len(p.Bundles) > 0 && ask.Full:
			return fmt.Errorf("package %q at index [%d] is invalid: Full: true cannot be mixed with bundles", p.Name, i)
		case ranged && inChannels:
			return fmt.Errorf("package %q: mixing both filtering by minVersion/maxVersion and filtering by channel minVersion/maxVersion is not allowed", p.Name)
		case ask.Full && (ranged || inChannels):
			return fmt.Errorf("package %q: Full: true cannot be mixed with versionRange", p.Name)
		case ask.Full && hasMinBundle(p):
			return fmt.Errorf("package %q: Full: true cannot be mixed with minBundle", p.Name)
		}
	}
	return nil
}

// head returns the head of what is kept of a channel, "" if it does not have one.
func head(c keptChannel) string {
	if heads := newGraph(c.entries).heads(c.keep); len(heads) == 1 {
		return heads[0]
	}
	return ""
}

// describe fills in what a caller sees of the parts.
func (s *Selection) describe() {
	s.Packages, s.Bundles = nil, nil
	slices.SortFunc(s.parts, func(a, b *part) int { return strings.Compare(a.pack.name, b.pack.name) })
	for _, p := range s.parts {
		described := Package{Name: p.pack.name, DefaultChannel: p.defaultChannel}
		for _, c := range p.channels {
			out := Channel{Name: c.name}
			for _, e := range c.entries {
				if c.keep(e.Name) {
					out.Entries = append(out.Entries, Entry{e.Name, e.Replaces, e.SkipRange, e.Skips})
				}
			}
			out.Head = head(c)
			described.Channels = append(described.Channels, out)
		}
		s.Packages = append(s.Packages, described)
		for _, b := range p.bundles {
			s.Bundles = append(s.Bundles, Bundle{p.pack.name, b.name, b.version})
		}
	}
}
