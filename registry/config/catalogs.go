package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/yamlkeys"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// OriginalSuffix ends the tag under which a view keeps its original, after the view's own tag.
const OriginalSuffix = ".original"

// DefaultKeep is how long a superseded view stays: a cluster that names a catalog by its digest is
// updated within a month.
const DefaultKeep = 30 * 24 * time.Hour

// Catalog is a view of an operator catalog of this registry: what a filter leaves of it, and the
// registry has whole. The filter is inline, or an operator entry of an image set.
type Catalog struct {
	Name     string // repository:tag under which the view is shown
	Original string // repository:tag or repository@digest of the catalog

	Full               bool               // all versions, as in an image set
	FollowDependencies bool               // adds what the bundles require
	Packages           []imageset.Package // none: all

	ImageSet string // file of an image set whose operator entry is the filter; "" for the inline one
	Entry    string // catalog of that entry; "" if it is the only one

	Frozen Date          // the original is that of then; "" for the newest
	Keep   time.Duration // for how long a superseded view stays
}

// Repository returns the repository of the view, and its tag.
func (c *Catalog) Repository() (name, tag string) {
	name, tag, _ = splitReference(c.Name)
	return name, tag
}

// OriginalRepository returns the repository of the original, and its tag or digest.
func (c *Catalog) OriginalRepository() (name, reference string) {
	name, reference, _ = splitReference(c.Original)
	return name, reference
}

// Filter returns the inline filter.
func (c *Catalog) Filter() imageset.Operator {
	return imageset.Operator{Catalog: c.Original, Full: c.Full, FollowDependencies: c.FollowDependencies, Packages: c.Packages}
}

// splitReference splits repository:tag or repository@digest.
func splitReference(s string) (repository, reference string, byDigest bool) {
	if repository, d, ok := strings.Cut(s, "@"); ok {
		return repository, d, true
	}
	if at := strings.LastIndexByte(s, ':'); at > strings.LastIndexByte(s, '/') {
		return s[:at], s[at+1:], false
	}
	return s, "", false
}

const (
	nameHint     = "write it without the host, such as views/operators:v4.20"
	originalHint = "write it without the host, such as redhat/redhat-operator-index:v4.20"
)

func viewName(s string) error {
	repository, tag, byDigest := splitReference(s)
	switch {
	case !image.ValidRepository(repository):
		return complaint(fmt.Sprintf("%q is not a repository and a tag", s), nameHint)
	case byDigest, tag == "":
		return complaint(fmt.Sprintf("%q has no tag", s), nameHint)
	case image.CheckTag(tag+OriginalSuffix) != nil:
		return complaint(fmt.Sprintf("%q is not a tag to which %s can be added", tag, OriginalSuffix), nameHint)
	case strings.HasSuffix(tag, OriginalSuffix):
		return complaint(fmt.Sprintf("tags with %s at their end are those of originals", OriginalSuffix), nameHint)
	}
	return nil
}

func originalName(s string) error {
	repository, reference, byDigest := splitReference(s)
	switch {
	case !image.ValidRepository(repository):
		return complaint(fmt.Sprintf("%q is not a repository and a tag", imageset.Shown(s)), originalHint)
	case byDigest && image.CheckDigest(digest.Digest(reference)) != nil:
		return complaint(fmt.Sprintf("%q is not a digest", reference), originalHint)
	case !byDigest && image.CheckTag(reference) != nil:
		return complaint(fmt.Sprintf("%q has no valid tag", s), originalHint)
	}
	return nil
}

// Date is a day, whose end in UTC it means, or a moment of RFC 3339.
type Date string

// UnmarshalText checks a date.
func (d *Date) UnmarshalText(text []byte) error {
	*d = Date(text)
	if _, err := d.parse(); err != nil && *d != "" {
		return complaint("a date", "write it like 2026-11-29, or 2026-11-29T14:00:00Z")
	}
	return nil
}

// Time returns the moment that is meant.
func (d Date) Time() time.Time {
	t, _ := d.parse() // which UnmarshalText has done
	return t
}

func (d Date) parse() (time.Time, error) {
	if t, err := time.Parse(time.DateOnly, string(d)); err == nil {
		return t.Add(24*time.Hour - time.Nanosecond), nil
	}
	return time.Parse(time.RFC3339, string(d))
}

func (c *Catalog) keys() []yamlkeys.Key {
	return []yamlkeys.Key{
		{Name: "name", Value: &c.Name, Required: true, Check: func() error { return viewName(c.Name) }},
		{Name: "original", Value: &c.Original, Required: true, Check: func() error { return originalName(c.Original) }},
		{Name: "full", Value: &c.Full},
		{Name: "followDependencies", Value: &c.FollowDependencies},
		{Name: "packages", Value: (*packages)(&c.Packages)},
		{Name: "imageSet", Value: &c.ImageSet, Check: optional(&c.ImageSet)},
		{Name: "entry", Value: &c.Entry},
		{Name: "frozen", Value: &c.Frozen},
		{Name: "keep", Value: &c.Keep, Check: atLeast(&c.Keep, time.Minute, "a cluster that pulls by digest would find nothing")},
	}
}

// catalogs are mappings with defaults of their own.
type catalogs []Catalog

// DecodeNode decodes a list of views.
func (all *catalogs) DecodeNode(d *yamlkeys.Decoder, n *yaml.Node, path string) {
	d.Sequence(n, path, "begin each view with '- name: …'", func(n *yaml.Node, path string) {
		c := Catalog{Keep: DefaultKeep}
		problems := len(d.Problems)
		d.Mapping(n, path, c.keys())
		if len(d.Problems) == problems {
			imageset.CheckFilter(d, path, c.Filter())
		}
		*all = append(*all, c)
	})
}

// packages are written as in an image set.
type packages []imageset.Package

// DecodeNode decodes a list of packages.
func (all *packages) DecodeNode(d *yamlkeys.Decoder, n *yaml.Node, path string) {
	*all = imageset.DecodePackages(d, n, path)
}

// checkCatalogs checks the views together. It names the key to change.
func (c *Config) checkCatalogs() (string, error) {
	for i, v := range c.Catalogs {
		at := func(key string) string { return fmt.Sprintf("catalogs[%d].%s", i, key) }
		_, _, byDigest := splitReference(v.Original)
		if err := c.checkPlace(v); err != nil {
			return at("name"), err
		}
		switch {
		case slices.ContainsFunc(c.Catalogs[:i], func(o Catalog) bool { return o.Name == v.Name }):
			return at("name"), complaint(fmt.Sprintf("%q is another view already", v.Name), "give each view a name of its own")
		case slices.ContainsFunc(c.Catalogs, func(o Catalog) bool { return o.Name == v.Original }):
			return at("original"), complaint(fmt.Sprintf("%q is a view itself", v.Original), "name the original of that view")
		case v.ImageSet != "" && (v.Full || v.FollowDependencies || len(v.Packages) > 0):
			return at("imageSet"), complaint("the filter is inline already", "keep imageSet, or full, followDependencies and packages")
		case v.Entry != "" && v.ImageSet == "":
			return at("entry"), complaint("there is no imageSet whose entry this could be", "name the file with imageSet, or leave entry out")
		case v.Frozen != "" && byDigest:
			return at("frozen"), complaint("an original that is named by its digest does not change", "leave frozen out")
		}
	}
	return "", nil
}

// checkPlace checks that a view is where a run may write, and nothing else of this registry does.
func (c *Config) checkPlace(v Catalog) error {
	repository, _ := v.Repository()
	if repository == image.FilesRepository {
		return complaint(fmt.Sprintf("%q has the files of media", repository), nameHint)
	}
	for _, u := range c.Routes() {
		if repository == u.Prefix || strings.HasPrefix(repository, u.Prefix+"/") {
			return complaint(fmt.Sprintf("%q is below %q, which is the prefix of an upstream", v.Name, u.Prefix), nameHint)
		}
	}
	return nil
}

// flow returns packages as YAML on one line.
func (all packages) flow() (string, error) {
	list := sequence()
	for _, p := range all {
		channels, bundles := sequence(), sequence()
		for _, c := range p.Channels {
			channels.Content = append(channels.Content, mapping("name", text(c.Name),
				"minVersion", text(c.MinVersion), "maxVersion", text(c.MaxVersion)))
		}
		for _, b := range p.Bundles {
			bundles.Content = append(bundles.Content, mapping("name", text(b.Name)))
		}
		list.Content = append(list.Content, mapping("name", text(p.Name), "minVersion", text(p.MinVersion),
			"maxVersion", text(p.MaxVersion), "defaultChannel", text(p.DefaultChannel), "channels", channels, "bundles", bundles))
	}
	out, err := yaml.Marshal(list)
	return strings.TrimSuffix(string(out), "\n"), err
}

func sequence() *yaml.Node { return &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle} }

func text(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

// mapping returns a mapping of names and values, without the values that are empty.
func mapping(pairs ...any) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
	for i := 0; i+1 < len(pairs); i += 2 {
		if v := pairs[i+1].(*yaml.Node); v.Value != "" || len(v.Content) > 0 {
			n.Content = append(n.Content, text(pairs[i].(string)), v)
		}
	}
	return n
}
