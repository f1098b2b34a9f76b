// Package operatortest makes random catalogs of operators, for the tests of mirror/operator and for
// their comparison with oc-mirror's library.
package operatortest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// Maker makes random catalogs and operator entries. Most are valid for opm.
type Maker struct {
	random *rand.Rand
	apart  bool
}

// New returns a Maker that makes the same of the same seed. apart is whether no entry of a
// channel replaces or skips a bundle that only other channels have.
func New(t testing.TB, seed uint64, apart bool) *Maker {
	t.Helper()
	return &Maker{rand.New(rand.NewPCG(seed, 1)), apart}
}

type entry struct {
	Name      string   `json:"name"`
	Replaces  string   `json:"replaces,omitempty"`
	Skips     []string `json:"skips,omitempty"`
	SkipRange string   `json:"skipRange,omitempty"`
}

func (m *Maker) chance(of int) bool { return m.random.IntN(of) == 0 }

// Catalog returns the files of a catalog, and the versions of each package.
func (m *Maker) Catalog() (fstest.MapFS, map[string][]string) {
	files, versions := fstest.MapFS{}, map[string][]string{}
	for p := range 1 + m.random.IntN(3) {
		pkg := fmt.Sprintf("p%d", p)
		versions[pkg] = m.versions()
		files[pkg+"/catalog.json"] = &fstest.MapFile{Data: m.pack(pkg, versions[pkg]), Mode: 0o644}
	}
	return files, versions
}

// versions returns rising versions, with a few pre-releases and build metadata.
func (m *Maker) versions() []string {
	var list []string
	major, minor, patch := m.random.IntN(2), 0, 0
	for range 2 + m.random.IntN(8) {
		v := fmt.Sprintf("%d.%d.%d", major, minor, patch)
		if m.chance(8) {
			v += "-rc.1"
		}
		if m.chance(12) {
			v += "+7"
		}
		if !slices.Contains(list, v) {
			list = append(list, v)
		}
		switch m.random.IntN(5) {
		case 0:
			major, minor, patch = major+1, 0, 0
		case 1, 2:
			minor, patch = minor+1, 0
		default:
			patch++
		}
	}
	return list
}

func (m *Maker) pack(pkg string, versions []string) []byte {
	var out []byte
	put := func(v any) {
		text, _ := json.Marshal(v)
		out = append(append(out, text...), '\n')
	}
	channels := 1 + m.random.IntN(3)
	put(map[string]any{"schema": "olm.package", "name": pkg, "defaultChannel": fmt.Sprintf("c%d", m.random.IntN(channels))})
	listed := map[string]bool{}
	for c := range channels {
		entries := m.channel(pkg, versions)
		for _, e := range entries {
			listed[e.Name] = true
		}
		put(map[string]any{"schema": "olm.channel", "package": pkg, "name": fmt.Sprintf("c%d", c), "entries": entries})
	}
	for _, v := range versions {
		if name := pkg + ".v" + v; listed[name] {
			put(map[string]any{"schema": "olm.bundle", "package": pkg, "name": name, "image": "example.com/" + pkg + "@sha256:" + fmt.Sprintf("%064x", len(v)),
				"properties":    []any{map[string]any{"type": "olm.package", "value": map[string]string{"packageName": pkg, "version": v}}},
				"relatedImages": []any{map[string]string{"name": "", "image": "example.com/" + pkg + "@sha256:" + fmt.Sprintf("%064x", len(v))}}})
		}
	}
	return out
}

// channel returns a chain of some of the versions, in which some are skipped instead of replaced.
func (m *Maker) channel(pkg string, versions []string) []entry {
	var names []string
	for _, v := range versions {
		if m.random.IntN(4) > 0 {
			names = append(names, pkg+".v"+v)
		}
	}
	if len(names) == 0 {
		names = []string{pkg + ".v" + versions[0]}
	}
	if m.chance(6) && len(names) > 2 { // versions need not rise along the chain
		i := m.random.IntN(len(names) - 1)
		names[i], names[i+1] = names[i+1], names[i]
	}
	var entries []entry
	chain := -1 // the last one that a later entry may replace
	for i, name := range names {
		e := entry{Name: name}
		if chain >= 0 {
			e.Replaces = names[chain]
		}
		// What lies between the replaced one and this one must be skipped.
		e.Skips = append(e.Skips, names[chain+1:i]...)
		for j := range chain + 1 {
			if m.chance(8) {
				e.Skips = append(e.Skips, names[j])
			}
		}
		if m.chance(6) {
			e.Skips = append(e.Skips, m.elsewhere(pkg+".v0.0.1", versions, names)...)
		}
		if m.random.IntN(3) > 0 || i == len(names)-1 {
			chain = i
		}
		entries = append(entries, e)
	}
	if !m.apart && m.chance(2) && entries[0].Replaces == "" {
		entries[0].Replaces = pkg + ".v" + versions[m.random.IntN(len(versions))]
		if slices.Contains(names, entries[0].Replaces) {
			entries[0].Replaces = ""
		}
	}
	m.random.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
	return entries
}

// elsewhere returns a name that an entry skips, none if the channel is not to lead to it.
func (m *Maker) elsewhere(name string, versions, names []string) []string {
	_, version, _ := strings.Cut(name, ".v")
	if m.apart && slices.Contains(versions, version) && !slices.Contains(names, name) {
		return nil
	}
	return []string{name}
}

// Ask returns an operator entry for a catalog with these versions.
func (m *Maker) Ask(versions map[string][]string) imageset.Operator {
	var o imageset.Operator
	if m.chance(10) {
		return o
	}
	names := make([]string, 0, len(versions))
	for name := range versions {
		names = append(names, name)
	}
	slices.Sort(names)
	o.Full = m.chance(12)
	for _, name := range names {
		if len(o.Packages) > 0 && m.chance(2) {
			continue
		}
		p := imageset.Package{Name: name}
		least, most := m.bounds(versions[name])
		if o.Full {
			least, most = "", ""
		}
		switch m.random.IntN(4) {
		case 0:
			p.Channels = []imageset.PackageChannel{{Name: fmt.Sprintf("c%d", m.random.IntN(3)), MinVersion: least, MaxVersion: most}}
			if m.chance(2) {
				p.DefaultChannel = p.Channels[0].Name
			}
		case 1:
		default:
			p.MinVersion, p.MaxVersion = least, most
		}
		o.Packages = append(o.Packages, p)
	}
	return o
}

func (m *Maker) bounds(versions []string) (least, most string) {
	i, j := m.random.IntN(len(versions)), m.random.IntN(len(versions))
	if i > j {
		i, j = j, i
	}
	least, most = versions[i], versions[j]
	if m.chance(3) {
		least = ""
	} else if m.chance(3) {
		most = ""
	}
	if m.chance(6) && most != "" {
		most = fmt.Sprintf("%c", most[0])
	}
	return least, most
}
