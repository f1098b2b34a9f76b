// Package resources renders what is applied to a cluster so that it finds the mirror:
// ImageDigestMirrorSet, ImageTagMirrorSet, CatalogSource, ClusterCatalog, UpdateService and the
// signatures of releases, in the files and with the names that oc-mirror v2 has
// (idms-oc-mirror.yaml, itms-oc-mirror.yaml, idms-release-0 and so on), since people's scripts know
// them.
//
// Use Render with the images that were mirrored. The order of documents and entries is stable,
// unlike oc-mirror's, so that two runs can be compared.
package resources

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// Image is an image that is at its destination.
type Image struct {
	Category    string // the group of mirror sets, see categories; others are in none
	Source      string // registry and repository that clusters ask for
	Destination string // registry and repository of the mirror
	ByDigest    bool   // clusters ask for it by digest
	ByTag       bool   // clusters ask for it by tag
}

// Options are what every resource carries.
type Options struct {
	Created time.Time
	Version string // of this program
	// ByRepository writes an entry for each repository: paths that were joined have
	// no namespaces in common.
	ByRepository bool
	// DefaultSourceNames gives the vendor's catalogs the names of a cluster's default sources.
	DefaultSourceNames bool
	V1                 bool // gives catalogs their names in the resources of version 1 too
}

// mirrors is spec.imageDigestMirrors or spec.imageTagMirrors, in the order that oc-mirror writes.
type mirrors struct {
	Mirrors []string `json:"mirrors"`
	Source  string   `json:"source"`
}

type mirrorSet struct {
	APIVersion string               `json:"apiVersion"`
	Kind       string               `json:"kind"`
	Metadata   metadata             `json:"metadata"`
	Spec       map[string][]mirrors `json:"spec"`
}

type metadata struct {
	Annotations map[string]string `json:"annotations"`
	Labels      map[string]string `json:"labels,omitempty"`
	Name        string            `json:"name"`
	Namespace   string            `json:"namespace,omitempty"`
}

func (o Options) annotations() map[string]string {
	return map[string]string{
		"createdAt":         o.Created.UTC().Format(time.RFC3339),
		"createdBy":         "appliance",
		"oc-mirror_version": o.Version,
	}
}

// categories returns the groups of mirror sets, in the order of their documents.
func categories() []string { return []string{"release", "operator", "generic"} }

// kind is one of the two resources.
type kind struct {
	file, name, prefix, field string
	of                        func(Image) bool
}

func kinds() []kind {
	return []kind{
		{"idms-oc-mirror.yaml", "ImageDigestMirrorSet", "idms", "imageDigestMirrors",
			func(i Image) bool { return i.ByDigest }},
		{"itms-oc-mirror.yaml", "ImageTagMirrorSet", "itms", "imageTagMirrors", func(i Image) bool { return i.ByTag }},
	}
}

// File is a rendered file.
type File struct {
	Name string
	Data []byte
}

// Mirrored is what is at the mirror.
type Mirrored struct {
	Images     []Image
	Signatures []Signature
	Catalogs   []Catalog
	Updates    *UpdateService // nil without graph data
}

// Render returns the files, without those that nothing belongs into.
func Render(m Mirrored, o Options) ([]File, error) {
	var files []File
	for _, k := range kinds() {
		text, err := k.render(m.Images, o)
		if err != nil {
			return nil, err
		}
		if text != nil {
			files = append(files, File{Name: k.file, Data: text})
		}
	}
	signatures, err := renderSignatures(m.Signatures, o)
	if err != nil {
		return nil, err
	}
	catalogs, err := renderCatalogs(m.Catalogs, o)
	if err != nil {
		return nil, err
	}
	updates, err := m.Updates.render(o)
	return slices.Concat(files, signatures, catalogs, updates), err
}

// render returns the file's content, or nil when no image belongs into it.
func (k kind) render(images []Image, o Options) ([]byte, error) {
	var text bytes.Buffer
	for _, c := range categories() {
		set := map[string][]string{} // source to mirrors
		for _, i := range images {
			if i.Category != c || !k.of(i) {
				continue
			}
			source, destination := scope(i, o.ByRepository)
			if !slices.Contains(set[source], destination) {
				set[source] = append(set[source], destination)
			}
		}
		if len(set) == 0 {
			continue
		}
		doc, err := yaml.Marshal(k.document(c, set, o))
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", k.file, err)
		}
		text.WriteString("---\n")
		text.Write(doc)
	}
	return text.Bytes(), nil
}

func (k kind) document(c string, set map[string][]string, o Options) mirrorSet {
	var list []mirrors
	for _, source := range slices.SortedFunc(maps.Keys(set), cmp.Compare[string]) {
		list = append(list, mirrors{Mirrors: slices.Sorted(slices.Values(set[source])), Source: source})
	}
	return mirrorSet{
		APIVersion: "config.openshift.io/v1",
		Kind:       k.name,
		Metadata: metadata{
			Annotations: o.annotations(),
			Name:        fmt.Sprintf("%s-%s-0", k.prefix, c),
		},
		Spec: map[string][]mirrors{k.field: list},
	}
}

// scope returns the names of an image's entry in a mirror set: the namespaces, where the
// destination keeps the source's path, so that one entry serves all images of the namespace;
// else the repositories.
func scope(i Image, byRepository bool) (source, destination string) {
	host, path, ok := strings.Cut(i.Source, "/")
	if byRepository || !ok || !strings.HasSuffix(i.Destination, "/"+path) {
		return i.Source, i.Destination
	}
	last := path[strings.LastIndexByte(path, '/')+1:]
	source = strings.TrimSuffix(host+"/"+path, "/"+last)
	return source, strings.TrimSuffix(i.Destination, "/"+last)
}
