package archive_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
)

const operators = `
  operators:
  - catalog: HOST/redhat/redhat-operator-index:v4.18
    packages:
    - name: sample-database
  - catalog: HOST/redhat/redhat-operator-index:v4.18
    full: true
    targetCatalog: whole/index
`

// Spec: oc-mirror 5.6, 5.7, 8.6.
func TestGap_operators(t *testing.T) {
	g := newGap(t)
	made, err := g.toDisk(operators)
	if err != nil {
		t.Fatal(err)
	}
	files := g.all()
	const index = "docker/registry/v2/repositories/redhat/redhat-operator-index/_manifests/tags/"
	of, _ := g.Manifest(sample.CatalogRepository, sample.CatalogTag)
	original := of.Digest
	var key, built string
	for _, f := range files {
		if name, ok := strings.CutPrefix(f.name, index); ok {
			switch tag, _, _ := strings.Cut(name, "/"); {
			case tag == "v4.18" && string(f.data) != original.String():
				t.Errorf("the tag of the original names %s", f.data)
			case tag != "v4.18":
				key, built = tag, strings.TrimPrefix(string(f.data), "sha256:")
			}
		}
	}
	documents := "working-dir/operator-catalogs/redhat-operator-index/" + original.Encoded() + "/"
	want := []string{
		documents + "filtered-catalogs/" + key + "/catalog-config/sample-database/catalog.json",
		documents + "filtered-catalogs/" + key + "/digest",
	}
	if got := names(files, "operator-catalogs"); !slices.Equal(got, want) {
		t.Errorf("the archive has the documents %v, want %v", got, want)
	}
	for _, f := range files {
		if f.name == want[1] && string(f.data) != built {
			t.Errorf("the digest is %s, and the tag %s names %s", f.data, key, built)
		}
	}

	report, err := g.fromDisk(operators, g.dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Mirrored) != len(made.Mirrored) {
		t.Errorf("%d images were put into the archive, %d came out", len(made.Mirrored), len(report.Mirrored))
	}
	m, err := g.store.Manifests.ByTag(t.Context(), sample.CatalogRepository, "v4.18")
	if err != nil || m.Digest.Encoded() != built {
		t.Errorf("the catalog is %s, want %s: %v", m.Digest, built, err)
	}
	if m, err = g.store.Manifests.ByTag(t.Context(), "whole/index", "v4.18"); err != nil || m.Digest != original {
		t.Errorf("the whole catalog is %s, want %s: %v", m.Digest, original, err)
	}
	other := strings.Replace(operators, "sample-database", "sample-logging", 1)
	if _, err := g.fromDisk(other, g.dir); err == nil || !strings.Contains(err.Error(), "1 of") {
		t.Errorf("another filter: %v", err)
	}
}
