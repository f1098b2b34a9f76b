package resources

import (
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

// mirroredName returns what version 1 calls the name of the catalog that was mirrored: its repository
// without the registry and the first namespace, or the last component of a path on this host.
func (c Catalog) mirroredName() string {
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
