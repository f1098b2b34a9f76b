package resources

import (
	"cmp"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

// renderCatalogsV1 returns the CatalogSource of each catalog. Version 1 names them without the tag,
// and numbers those that are alike.
func renderCatalogsV1(catalogs []Catalog, o Options) (files []File, err error) {
	o.V1 = true
	named, _ := Named(catalogs, o)
	for _, c := range named {
		text, err := yaml.Marshal(map[string]any{
			"apiVersion": sourceAPI, "kind": sourceKind,
			"metadata": map[string]string{"name": c.Names.V1, "namespace": "openshift-marketplace"},
			"spec":     map[string]string{"sourceType": "grpc", "image": c.Image},
		})
		if err != nil {
			return nil, fmt.Errorf("write the resource of catalog %s: %w", c.Image, err)
		}
		files = append(files, File{"catalogSource-" + c.Names.V1 + ".yaml", text})
	}
	return files, nil
}

// sourceNameV1 returns the name that version 1 makes of a catalog's repository, without its first
// namespace. An end that is no letter and no digit becomes -0.
func (c Catalog) sourceNameV1() string {
	name := "cs-" + notInName.ReplaceAllString(strings.ToLower(c.mirroredName()), "-")
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

// mirroredName returns the name that version 1 knows the catalog by: its path without the registry and the first
// namespace. Version 1 reads one on this host as if its path were a name.
func (c Catalog) mirroredName() string {
	_, name, found := strings.Cut(c.Origin, "://")
	if !found {
		name = c.Origin
	}
	name, _, _ = strings.Cut(strings.Trim(cmp.Or(c.UniqueName, name), "/"), "@")
	last := strings.LastIndexByte(name, '/') + 1
	if at := strings.IndexByte(name[last:], ':'); at >= 0 {
		name = name[:last+at]
	}
	parts := strings.Split(name, "/")
	if host := parts[0]; len(parts) > 1 && (strings.ContainsAny(host, ".:") || host == "localhost") {
		parts = parts[1:]
	}
	return strings.Join(parts[min(1, len(parts)-1):], "/")
}
