package resources

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

var dashes = regexp.MustCompile(`-{2,}`)

// renderCatalogsV1 returns the CatalogSource of each catalog. Version 1 names them without the tag,
// and numbers those that are alike.
func renderCatalogsV1(catalogs []Catalog) (files []File, err error) {
	catalogs = slices.SortedFunc(slices.Values(catalogs), func(a, b Catalog) int { return cmp.Compare(a.Image, b.Image) })
	taken := map[string]bool{}
	for _, c := range catalogs {
		first := c.nameV1()
		name := first
		for n := 1; taken[name]; n++ {
			mark := fmt.Sprintf("-%d", n)
			name = shortened(first, mark) + mark
		}
		taken[name] = true
		text, err := yaml.Marshal(map[string]any{
			"apiVersion": sourceAPI, "kind": sourceKind,
			"metadata": map[string]string{"name": name, "namespace": "openshift-marketplace"},
			"spec":     map[string]string{"sourceType": "grpc", "image": c.Image},
		})
		if err != nil {
			return nil, fmt.Errorf("write the resource of catalog %s: %w", c.Image, err)
		}
		files = append(files, File{"catalogSource-" + name + ".yaml", text})
	}
	return files, nil
}

// nameV1 returns the name that version 1 makes of a catalog's repository, without its first
// namespace. An end that is no letter and no digit becomes -0.
func (c Catalog) nameV1() string {
	name := "cs-" + notInName.ReplaceAllString(strings.ToLower(c.sourceName()), "-")
	if strings.HasSuffix(name, "-") {
		name += "-0"
	}
	name = dashes.ReplaceAllString(name, "-")
	if len(name) <= maxName {
		return name
	}
	if name = name[:maxName]; strings.HasSuffix(name, "-") {
		name = shortened(name, "-0") + "-0"
	}
	return name
}

// sourceName returns what version 1 calls the name of the catalog that was mirrored: its repository
// without the registry and the first namespace, or the last component of a path on this host.
func (c Catalog) sourceName() string {
	transport, name, found := strings.Cut(c.Origin, "://")
	if !found {
		transport, name = "docker", c.Origin
	}
	name, _, _ = strings.Cut(name, "@")
	last := strings.LastIndexByte(name, '/') + 1
	if at := strings.IndexByte(name[last:], ':'); at >= 0 {
		name = name[:last+at]
	}
	parts := strings.Split(strings.TrimRight(name, "/"), "/")
	if transport != "docker" {
		return parts[len(parts)-1]
	}
	return strings.Join(parts[min(2, len(parts)-1):], "/")
}
