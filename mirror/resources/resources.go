// Package resources writes what a cluster is given so that it finds the mirror: ImageDigestMirrorSet and
// ImageTagMirrorSet, in the files and with the names that oc-mirror v2 has (idms-oc-mirror.yaml,
// itms-oc-mirror.yaml, idms-release-0 and so on), since people's scripts know them.
//
// Use Write with the images that were mirrored. Unlike oc-mirror's, the order of documents and entries is
// stable, so that two runs can be compared. CatalogSource, ClusterCatalog, UpdateService and the signatures'
// ConfigMap come with the rooms that mirror what they are about.
package resources

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// Category is the group of mirror sets that an image belongs to.
type Category string

// The categories. Catalogs and the graph image are in none.
const (
	Release  Category = "release"
	Operator Category = "operator"
	Generic  Category = "generic"
)

// Image is an image that is at its destination.
type Image struct {
	Category    Category
	Source      string // registry and repository that clusters ask for
	Destination string // registry and repository that it is at
	ByDigest    bool   // clusters ask for it by digest
	ByTag       bool   // or by tag; both may be
}

// Options are what every resource carries.
type Options struct {
	Created time.Time
	Version string // of this program
}

// mirrors is spec.imageDigestMirrors or spec.imageTagMirrors. The tags are in alphabetical order, as oc-mirror
// writes them.
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
	Name        string            `json:"name"`
}

// kind is one of the two resources.
type kind struct {
	file, name, prefix, field string
	of                        func(Image) bool
}

func kinds() []kind {
	return []kind{
		{"idms-oc-mirror.yaml", "ImageDigestMirrorSet", "idms", "imageDigestMirrors", func(i Image) bool { return i.ByDigest }},
		{"itms-oc-mirror.yaml", "ImageTagMirrorSet", "itms", "imageTagMirrors", func(i Image) bool { return i.ByTag }},
	}
}

// Write puts the files for images into dir in place of whatever was there: what an earlier run described and this one
// did not mirror is gone from it. No mix of old and new files is ever there; a crash
// between the two renames leaves the old ones in dir.old and the new ones in dir.next.
func Write(dir string, images []Image, o Options) (files []string, err error) {
	next := dir + ".next"
	if err := os.RemoveAll(next); err != nil {
		return nil, fmt.Errorf("cluster resources: %w", err)
	}
	if err := os.MkdirAll(next, 0o755); err != nil {
		return nil, fmt.Errorf("cluster resources: %w", err)
	}
	for _, k := range kinds() {
		text, err := k.render(images, o)
		if err != nil {
			return nil, err
		}
		if text == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(next, k.file), text, 0o644); err != nil {
			return nil, fmt.Errorf("cluster resources: %w", err)
		}
		files = append(files, filepath.Join(dir, k.file))
	}
	return files, swap(next, dir)
}

// swap puts the directory next in the place of dir.
func swap(next, dir string) error {
	old := dir + ".old"
	if err := os.RemoveAll(old); err != nil {
		return fmt.Errorf("cluster resources: %w", err)
	}
	if err := os.Rename(dir, old); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("cluster resources: %w", err)
	}
	if err := os.Rename(next, dir); err != nil {
		if back := os.Rename(old, dir); back != nil && !os.IsNotExist(back) {
			err = errors.Join(err, back)
		}
		return fmt.Errorf("cluster resources: %w", err)
	}
	return os.RemoveAll(old)
}

// render is nil when no image belongs into the file.
func (k kind) render(images []Image, o Options) ([]byte, error) {
	var text bytes.Buffer
	for _, c := range []Category{Release, Operator, Generic} {
		set := map[string][]string{} // source to mirrors
		for _, i := range images {
			if i.Category != c || !k.of(i) {
				continue
			}
			source, destination := scope(i)
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

func (k kind) document(c Category, set map[string][]string, o Options) mirrorSet {
	var list []mirrors
	for _, source := range slices.SortedFunc(maps.Keys(set), cmp.Compare[string]) {
		list = append(list, mirrors{Mirrors: slices.Sorted(slices.Values(set[source])), Source: source})
	}
	return mirrorSet{
		APIVersion: "config.openshift.io/v1",
		Kind:       k.name,
		Metadata: metadata{
			Annotations: map[string]string{
				"createdAt":         o.Created.UTC().Format(time.RFC3339),
				"createdBy":         "appliance",
				"oc-mirror_version": o.Version,
			},
			Name: fmt.Sprintf("%s-%s-0", k.prefix, c),
		},
		Spec: map[string][]mirrors{k.field: list},
	}
}

// scope says what of an image's names goes into a mirror set: the namespace, where the destination keeps the
// source's path, so that one entry serves all its images; else the repository.
func scope(i Image) (source, destination string) {
	host, path, ok := strings.Cut(i.Source, "/")
	if !ok || !strings.HasSuffix(i.Destination, "/"+path) {
		return i.Source, i.Destination
	}
	last := path[strings.LastIndexByte(path, '/')+1:]
	source = strings.TrimSuffix(host+"/"+path, "/"+last)
	return source, strings.TrimSuffix(i.Destination, "/"+last)
}
