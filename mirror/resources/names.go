package resources

import (
	"bytes"
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"sigs.k8s.io/yaml"
)

// Names are the names that the resources of a catalog were given; empty: they get one.
type Names struct {
	// Source is that of the CatalogSource. The ClusterCatalog's has cc- in the place of cs-.
	Source string `json:"catalogSource,omitempty"`
	// Default is that of a cluster's default source, for Options.DefaultSourceNames.
	Default string `json:"defaultSource,omitempty"`
	// V1 is that of the CatalogSource of version 1.
	V1 string `json:"catalogSourceV1,omitempty"`
}

const (
	// maxSuffix is how much of a tag is in a name, and maxName the longest name, of a DNS label.
	maxSuffix = 12
	maxName   = 63
	// markDigits is how many digits of a digest keep two names apart.
	markDigits = 6
)

var (
	notInName = regexp.MustCompile(`[^a-z0-9-]`)
	dashes    = regexp.MustCompile(`-{2,}`)
	validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
)

// Named returns catalogs with the names of their resources, ordered by their images, and each image
// once. A catalog keeps the name that it was given before: Subscriptions name it, and would read
// another catalog if that got it. One without a name gets oc-mirror's; if another catalog has that,
// it gets an end of its own, and clashes has the reason by the name that it gets.
func Named(catalogs []Catalog, o Options) (named []Catalog, clashes map[string]string) {
	named = byImage(catalogs)
	clashes = map[string]string{}
	give(named, clashes, naming{func(n *Names) *string { return &n.Source }, Catalog.sourceName, Catalog.marked})
	if o.DefaultSourceNames {
		give(named, clashes, naming{func(n *Names) *string { return &n.Default }, Catalog.defaultName, Catalog.marked})
	}
	if o.V1 {
		give(named, map[string]string{}, naming{func(n *Names) *string { return &n.V1 }, Catalog.sourceNameV1, Catalog.numbered})
	}
	return named, clashes
}

// byImage returns catalogs ordered by their images, each image once: one that is known by several
// names at its sources is one catalog for a cluster.
func byImage(catalogs []Catalog) []Catalog {
	catalogs = slices.SortedStableFunc(slices.Values(catalogs), func(a, b Catalog) int { return cmp.Compare(a.Image, b.Image) })
	return slices.CompactFunc(catalogs, func(a, b Catalog) bool { return a.Image == b.Image })
}

// naming is one of the names of a catalog: where it is, what it is if no other catalog has it, "" for
// none, and what else it is at the nth attempt.
type naming struct {
	of    func(*Names) *string
	plain func(Catalog) string
	other func(c Catalog, plain string, n int) string
}

// give gives catalogs one of their names.
func give(catalogs []Catalog, clashes map[string]string, by naming) {
	taken := map[string]string{} // the image of the catalog that has it
	for n := range catalogs {
		c := &catalogs[n]
		name := by.of(&c.Names)
		if taken[*name] != "" || len(*name) > maxName || !validName.MatchString(*name) {
			*name = ""
		} else {
			taken[*name] = c.Image
		}
	}
	for n := range catalogs {
		c := &catalogs[n]
		name := by.of(&c.Names)
		plain := by.plain(*c)
		if *name != "" || plain == "" {
			continue
		}
		*name = plain
		for attempt := 1; taken[*name] != ""; attempt++ {
			*name = by.other(*c, plain, attempt)
		}
		if *name != plain {
			clashes[*name] = plain + " is that of " + taken[plain]
		}
		taken[*name] = c.Image
	}
}

// sourceName returns oc-mirror's name for the CatalogSource. Those that oc-mirror refuses are cut.
func (c Catalog) sourceName() string {
	repository, tag := c.path()
	suffix := notInName.ReplaceAllString(strings.ToLower(tag), "-")
	name := notInName.ReplaceAllString(strings.ToLower(repository), "-")
	suffix = "-" + cmp.Or(suffix[:min(len(suffix), maxSuffix)], "0")
	name = strings.Trim(shortened("cs-"+name, suffix), "-") + suffix
	return strings.TrimRight(name, "-")
}

// defaultName returns the name of the default source that has the vendor's catalog, "" for others.
func (c Catalog) defaultName() string {
	repository, _ := c.path()
	return vendorSources()[repository]
}

// path returns the last component of the catalog's repository, and its tag.
func (c Catalog) path() (repository, tag string) {
	repository, tag, _ = strings.Cut(c.Image[strings.LastIndexByte(c.Image, '/')+1:], ":")
	return repository, tag
}

// marked returns a name with an end that is made of the image.
func (c Catalog) marked(name string, attempt int) string {
	mark := "-" + digest.FromString(c.Image).Encoded()[:markDigits]
	if attempt > 1 {
		mark += fmt.Sprintf("-%d", attempt)
	}
	return shortened(name, mark) + mark
}

// numbered returns a name with a number, as version 1 does.
func (c Catalog) numbered(name string, attempt int) string {
	mark := fmt.Sprintf("-%d", attempt)
	return shortened(name, mark) + mark
}

// shortened cuts a name so that an end fits.
func shortened(name, end string) string { return name[:min(len(name), maxName-len(end))] }

// Resources returns the names of the CatalogSource and of the ClusterCatalog.
func (n Names) Resources(o Options) (source, clusterCatalog string) {
	if o.DefaultSourceNames && n.Default != "" {
		return n.Default, "openshift-" + n.Default
	}
	return n.Source, "cc-" + strings.TrimPrefix(n.Source, "cs-")
}

// SourceNames returns the names of the CatalogSources among files, by the images of their catalogs.
func SourceNames(files []File) (map[string]string, error) {
	names := map[string]string{}
	for _, f := range files {
		var r struct {
			Kind     string
			Metadata struct{ Name string }
			Spec     struct{ Image string }
		}
		if !bytes.Contains(f.Data, []byte("kind: "+sourceKind)) {
			continue
		}
		if err := yaml.Unmarshal(f.Data, &r); err != nil {
			return nil, fmt.Errorf("read the resource %s: %w", f.Name, err)
		}
		if r.Kind == sourceKind {
			names[r.Spec.Image] = r.Metadata.Name
		}
	}
	return names, nil
}
