package archive_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/mirror/archive"
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

// An archive leaves out what those before it have, and an import reads catalogs from it all the same.
func TestGap_operatorsInSteps(t *testing.T) {
	g := newGap(t)
	more := strings.Replace(operators, "    - name: sample-database\n", "    - name: sample-database\n    - name: sample-logging\n", 1)
	for n, set := range []string{operators, operators, more} {
		made, err := g.toDisk(set)
		must(t, err)
		report, err := g.fromDisk(set, g.moved())
		if err != nil || len(report.Mirrored) != len(made.Mirrored) {
			t.Fatalf("archive %d: %+v, %v", n+1, report, err)
		}
	}
	m, err := g.store.Manifests.ByTag(t.Context(), sample.CatalogRepository, "v4.18")
	must(t, err)
	of, _ := g.Manifest(sample.CatalogRepository, sample.CatalogTag)
	if m.Digest == of.Digest {
		t.Error("the catalog is not filtered")
	}
}

// What is left of a catalog goes from directory to directory, whole or filtered again.
func TestGap_operatorsOfADirectory(t *testing.T) {
	g := newGap(t)
	_, err := g.toDisk(operators)
	must(t, err)
	found, err := filepath.Glob(filepath.Join(g.dir, "working-dir/operator-catalogs/*/*/filtered-catalogs/*/catalog-config"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	files := filepath.Join(t.TempDir(), "own")
	must(t, os.Rename(found[0], files))
	_, err = g.fromDisk(operators, g.moved())
	must(t, err)
	for _, filter := range []string{"full: true", "packages: [{name: sample-database}]"} {
		set := "  operators:\n  - catalog: dir://" + files + "\n    targetTag: " + filter[:4] + "\n    " + filter + "\n"
		made, err := g.toDisk(set)
		must(t, err)
		report, err := g.fromDisk(set, g.moved())
		if err != nil || len(report.Mirrored) != len(made.Mirrored) {
			t.Errorf("%s: %+v, %v", filter, report, err)
		}
		if _, err := g.store.Manifests.ByTag(t.Context(), "own", filter[:4]); err != nil {
			t.Errorf("%s: %v", filter, err)
		}
	}
}

// An archive that is without an operator is mirrored to its end, and what it lacks is a failure
// there too.
func TestGap_operatorsThatFailed(t *testing.T) {
	g := newGap(t)
	var coder interface{ ExitCode() int }
	set := strings.Replace(operators, "    - name: sample-database\n", "    - name: sample-database\n    - name: sample-logging\n      minVersion: 77.0.0\n", 1)
	made, err := g.toDisk(set)
	if !errors.As(err, &coder) || coder.ExitCode() != 4 || len(made.Failures) != 1 {
		t.Fatalf("%+v, %v", made, err)
	}
	report, err := g.fromDisk(set, g.dir)
	if !errors.As(err, &coder) || coder.ExitCode() != 4 || len(report.Failures) != 1 || len(report.Mirrored) != len(made.Mirrored) {
		t.Fatalf("%+v, %v", report, err)
	}
	if f := report.Failures[0]; !strings.Contains(f.Error, "the archive is without it") || !strings.Contains(f.Image.Origin, "package sample-logging") {
		t.Errorf("it says %s: %s", f.Image.Origin, f.Error)
	}
}

// A catalog that fails on its way is not in the list of images, not even by its name, and an import has the
// reason.
func TestGap_catalogThatFailed(t *testing.T) {
	g := newGap(t)
	g.fails = func(r *http.Request) bool {
		_, err := os.Stat(filepath.Join(g.dir, ".mirror_journal")) // which is there when images are copied
		return err == nil && strings.HasPrefix(r.URL.Path, "/v2/"+sample.CatalogRepository+"/blobs/")
	}
	if report, err := g.toDisk(operators); err == nil || len(report.Failures) != 2 {
		t.Fatalf("%+v, %v", report, err)
	}
	d, err := archive.Describe(t.Context(), g.dir)
	if err != nil {
		t.Fatal(err)
	}
	of := d.Archives[0]
	for _, i := range of.Images {
		if strings.HasSuffix(i.Repository, "index") {
			t.Errorf("the archive has image %+v", i)
		}
	}
	if got := names(g.all(), "index/_manifests/tags/"); len(got) > 0 {
		t.Errorf("the archive has the tags %v", got)
	}
	if len(of.Failures) != 2 || !strings.Contains(of.Failures[0].Error, "500") || !strings.Contains(of.Failures[1].Error, "500") {
		t.Errorf("it is without %+v", of.Failures)
	}
	report, err := g.fromDisk(operators, g.dir)
	if err == nil || len(report.Failures) != 2 {
		t.Fatalf("%+v, %v", report, err)
	}
	for _, f := range report.Failures {
		if !strings.Contains(f.Error, "the archive is without it: ") || !strings.Contains(f.Error, "500") {
			t.Errorf("the failure is %s", f.Error)
		}
	}
}

// What comes after the list of a name's catalogs is carried too.
func TestGap_documentsAfterTheListOfCatalogs(t *testing.T) {
	g := newGap(t)
	const of = "operator-catalogs/redhat-operator-index/"
	var want []string
	for _, first := range []string{"0", "f"} { // before and after catalogs.json
		name := of + strings.Repeat(first, 64) + "/filtered-catalogs/key/digest"
		file := filepath.Join(g.dir, "working-dir", name)
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, []byte("sha256:0"), 0o600))
		want = append(want, "working-dir/"+name)
	}
	must(t, os.WriteFile(filepath.Join(g.dir, "working-dir", of, "catalogs.json"), []byte("{}"), 0o600))
	if _, err := g.toDisk("  additionalImages:\n  - name: HOST/samples/docker:v1\n"); err != nil {
		t.Fatal(err)
	}
	if got := names(g.all(), "operator-catalogs"); !slices.Equal(got, want) {
		t.Errorf("the archive has %v, want %v", got, want)
	}
}
