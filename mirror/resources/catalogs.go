package resources

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"

	"sigs.k8s.io/yaml"
)

// Catalog is an operator catalog at the mirror.
type Catalog struct {
	Image      string // registry, repository and tag
	Origin     string // the catalog that it was made of, as the image set names it
	UniqueName string // that version 1 gives it, with the path and the tag that the image set asks for; "" if it has only the origin
	Template   []byte // a CatalogSource that the written one is made of; may be empty
	Names      Names  // that its resources were given before
}

// vendorSources are the names that a cluster's default sources have, by the last path component of
// the vendor's catalogs. Subscriptions that exist name them.
func vendorSources() map[string]string {
	return map[string]string{
		"redhat-operator-index":    "redhat-operators",
		"certified-operator-index": "certified-operators",
		"community-operator-index": "community-operators",
		"redhat-marketplace-index": "redhat-marketplace",
	}
}

const (
	sourceAPI  = "operators.coreos.com/v1alpha1"
	sourceKind = "CatalogSource"
)

// renderCatalogs returns a file for each version of OLM that can start a catalog.
func renderCatalogs(catalogs []Catalog, o Options) ([]File, error) {
	var files []File
	named, _ := Named(catalogs, o)
	for _, c := range named {
		v0, v1 := c.Names.Resources(o)
		for _, r := range []struct {
			name     string
			resource any
		}{{v0, c.source(v0, o)}, {v1, c.clusterCatalog(v1, o)}} {
			if r.name == v0 && !c.starts() {
				continue
			}
			text, err := yaml.Marshal(r.resource)
			if err != nil {
				return nil, fmt.Errorf("write the resource of catalog %s: %w", c.Image, err)
			}
			files = append(files, File{r.name + ".yaml", text})
		}
	}
	return files, nil
}

// starts reports whether OLM v0 can start the catalog. The image that was made of a directory has no opm: another one
// serves it, by a template with extractContent, or none.
func (c Catalog) starts() bool {
	if !strings.HasPrefix(c.Origin, "dir://") {
		return true
	}
	source, _ := c.source("", Options{}).(map[string]any)
	pod, _ := child(source, "spec")["grpcPodConfig"].(map[string]any)
	return pod["extractContent"] != nil
}

// CheckTemplate returns an error if a CatalogSource cannot be made of a template, and a warning if
// a part of it is left out, with which no cluster could start a catalog that this program has filtered.
func CheckTemplate(data []byte) (warning string, err error) {
	var t struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Spec       struct {
			SourceType    string `json:"sourceType"`
			ConfigMap     string `json:"configMap"`
			GrpcPodConfig struct {
				ExtractContent struct {
					CacheDir string `json:"cacheDir"`
				} `json:"extractContent"`
			} `json:"grpcPodConfig"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(data, &t); err != nil {
		return "", fmt.Errorf("it is not YAML: %w", err)
	}
	switch {
	case t.APIVersion != sourceAPI || t.Kind != sourceKind:
		return "", fmt.Errorf("it is %q of %q, not %s of %s", t.Kind, t.APIVersion, sourceKind, sourceAPI)
	case t.Spec.SourceType != "" && t.Spec.SourceType != "grpc":
		return "", fmt.Errorf("its spec.sourceType is %q, and a mirrored catalog is of type grpc", t.Spec.SourceType)
	case t.Spec.ConfigMap != "":
		return "", errors.New("it has spec.configMap, and a mirrored catalog is an image")
	case t.Spec.GrpcPodConfig.ExtractContent.CacheDir != "":
		return "spec.grpcPodConfig.extractContent is left out, since its cacheDir names a cache and a filtered catalog has none; leave cacheDir out (OpenShift 4.20 and later)", nil
	}
	return "", nil
}

// source is the CatalogSource: the template with the fields that a mirror decides.
//
// OLM copies extractContent.cacheDir out of the image before it starts the pod, which fails where the
// image has no such directory, and it has none if it was filtered. Before OpenShift 4.20 extractContent
// cannot be without a cacheDir. So extractContent goes as a whole, and the image's own opm serves.
func (c Catalog) source(name string, o Options) any {
	all := map[string]any{}
	if _, err := CheckTemplate(c.Template); err == nil && len(bytes.TrimSpace(c.Template)) > 0 {
		_ = yaml.Unmarshal(c.Template, &all) // it was checked
	}
	meta, spec := child(all, "metadata"), child(all, "spec")
	if pod, ok := spec["grpcPodConfig"].(map[string]any); ok {
		if extract, ok := pod["extractContent"].(map[string]any); ok && extract["cacheDir"] != nil {
			delete(pod, "extractContent")
		}
	}
	annotations := child(meta, "annotations")
	for key, value := range o.annotations() {
		annotations[key] = value
	}
	maps.Copy(meta, map[string]any{"name": name, "namespace": "openshift-marketplace"})
	maps.Copy(spec, map[string]any{"sourceType": "grpc", "image": c.Image})
	maps.Copy(all, map[string]any{"apiVersion": sourceAPI, "kind": sourceKind})
	return all
}

// child returns a mapping within a mapping, which it makes if there is none.
func child(of map[string]any, key string) map[string]any {
	m, ok := of[key].(map[string]any)
	if !ok {
		m = map[string]any{}
		of[key] = m
	}
	return m
}

func (c Catalog) clusterCatalog(name string, o Options) any {
	return map[string]any{
		"apiVersion": "olm.operatorframework.io/v1", "kind": "ClusterCatalog",
		"metadata": map[string]any{"annotations": o.annotations(), "name": name},
		"spec": map[string]any{
			"priority": 0,
			"source":   map[string]any{"type": "Image", "image": map[string]any{"ref": c.Image}},
		},
	}
}
