package helm

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"sigs.k8s.io/yaml"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
)

// maxIndex bounds the index of a chart repository. The largest in public have some 30 MB.
const maxIndex = 128 << 20

// index is the index of a chart repository.
type index struct {
	entries map[string][]*entry // by chart, the newest version first
	raw     []byte
}

// entry is one version of a chart in an index.
type entry struct {
	Name    string   `json:"name"`
	Version string   `json:"version"`
	Type    string   `json:"type"`
	Digest  string   `json:"digest"` // of the archive, SHA-256 in hex; may be empty
	URLs    []string `json:"urls"`
}

// chartName is the form of the names of charts. It has no slash: the name becomes a part of a
// file's name.
var chartName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// parseIndex reads an index. Versions that Helm would not find are left out, as Helm does.
func parseIndex(raw []byte) (*index, error) {
	var file struct {
		Entries map[string][]*entry `json:"entries"`
	}
	decode := func(data []byte, v any) error { return yaml.Unmarshal(data, v) }
	if json.Valid(raw) { // much faster, and an index may be large
		decode = json.Unmarshal
	}
	if err := decode(raw, &file); err != nil {
		return nil, fmt.Errorf("the index is malformed: %w", err)
	}
	if file.Entries == nil {
		return nil, errors.New("the index has no entries; is it one of a chart repository?")
	}
	x := &index{entries: map[string][]*entry{}, raw: raw}
	for name, versions := range file.Entries {
		if !chartName.MatchString(name) {
			continue
		}
		versions = slices.DeleteFunc(versions, func(e *entry) bool { return e == nil || !versionForm(e.Version) })
		for _, e := range versions {
			e.Name = name
		}
		slices.SortStableFunc(versions, func(a, b *entry) int { return newer(a.Version, b.Version) })
		x.entries[name] = versions
	}
	return x, nil
}

// newer orders versions, the newest first.
func newer(a, b string) int { return version(b).Compare(version(a)) }

func version(s string) *semver.Version {
	v, err := semver.NewVersion(s)
	if err != nil {
		return &semver.Version{}
	}
	return v
}

// versionForm reports whether a text is a version, as Helm reads it: the patch, the minor version
// and a leading v are optional.
func versionForm(s string) bool {
	_, err := semver.NewVersion(s)
	return err == nil
}

// exact reports whether a text is a complete version. With fewer parts it may be the end of another
// chart's name.
func exact(s string) bool {
	_, err := semver.StrictNewVersion(strings.TrimPrefix(s, "v"))
	return err == nil
}

// find returns the entry of a chart: of the version as it is written, or else the newest that fits
// the constraint, which is the newest stable one if there is no constraint.
func (x *index) find(name, constraint string) (*entry, error) {
	versions := x.entries[name]
	if len(versions) == 0 {
		return nil, hint.New(fmt.Errorf("no chart %s in the index", name),
			"it has: "+plain.List(slices.Sorted(maps.Keys(x.entries)), listed))
	}
	texts := make([]string, len(versions))
	for i, e := range versions {
		texts[i] = e.Version
	}
	best, err := choose(texts, constraint)
	if err != nil {
		return nil, fmt.Errorf("chart %s: %w", name, err)
	}
	if best == "" {
		return nil, hint.New(fmt.Errorf("no version %s of chart %s in the index",
			cmp.Or(constraint, "(stable)"), name), "it has: "+plain.List(texts, listed))
	}
	return versions[slices.Index(texts, best)], nil
}

// choose returns the version that a constraint means, "" if none fits.
func choose(versions []string, constraint string) (string, error) {
	if constraint != "" && slices.Contains(versions, constraint) {
		return constraint, nil
	}
	rule, err := semver.NewConstraint(cmp.Or(constraint, "*"))
	if err != nil {
		return "", fmt.Errorf("version %q: %w", constraint, err)
	}
	for _, text := range slices.SortedFunc(slices.Values(versions), newer) {
		if rule.Check(version(text)) {
			return text, nil
		}
	}
	return "", nil
}

// all returns every version of every chart that can be installed, in a stable order.
func (x *index) all() []*entry {
	var all []*entry
	for _, name := range slices.Sorted(maps.Keys(x.entries)) {
		for _, e := range x.entries[name] {
			if e.Type != "library" {
				all = append(all, e)
			}
		}
	}
	return all
}

// listed is how many of many a hint names.
const listed = 10
