package catalog_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// without returns a function for View.Lacking: images whose names have a part are absent.
func without(parts ...string) func(context.Context, []string) (map[string]string, error) {
	return func(_ context.Context, images []string) (map[string]string, error) {
		lacking := map[string]string{}
		for _, image := range images {
			for _, part := range parts {
				if strings.Contains(image, part) {
					lacking[image] = "it is absent"
				}
			}
		}
		return lacking, nil
	}
}

// viewer returns a function that makes views of one sample's catalog.
func viewer(t *testing.T) func(dir string, filter imageset.Operator, absent ...string) *catalog.Viewed {
	t.Helper()
	source := samples(t, sample.CatalogRepository)
	return func(dir string, filter imageset.Operator, absent ...string) *catalog.Viewed {
		t.Helper()
		v, err := catalog.View{Filter: filter, Dir: dir, Lacking: without(absent...)}.Of(t.Context(), source, sample.CatalogTag)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func named(packages ...string) (filter imageset.Operator) {
	for _, p := range packages {
		filter.Packages = append(filter.Packages, imageset.Package{Name: p})
	}
	return filter
}

func TestView_key(t *testing.T) {
	view := viewer(t)
	dir := t.TempDir()
	one := view(dir, named("sample-database"))
	if other := view(dir, named("sample-database"), "sample-logging"); other.Key != one.Key {
		t.Error("an image of another package is in the key")
	}
	if other := view(dir, named("sample-database", "sample-logging")); other.Key == one.Key {
		t.Error("another package is not in the key")
	}
	whole, all := imageset.Operator{Full: true}, named("sample-database", "sample-logging")
	all.Full = true
	if view(dir, whole).Key == view(dir, all).Key {
		t.Error("a catalog as it is and one that is made anew have one key")
	}
	first, _, err := view(dir, all).Image(t.Context(), filepath.Join(dir, "one"))
	if err != nil {
		t.Fatal(err)
	}
	_, root, err := view(t.TempDir(), all).Image(t.Context(), filepath.Join(dir, "two"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := first.Manifest(t.Context(), root.String()); err != nil {
		t.Errorf("the same view has two digests: %v", err)
	}
}

// TestView_imagesAreReadOnce damages what is kept of a catalog.
func TestView_imagesAreReadOnce(t *testing.T) {
	view := viewer(t)
	dir, whole := t.TempDir(), imageset.Operator{Full: true}
	if v := view(dir, whole, "sample-logging-bundle"); len(v.LeftOut) != 3 || len(v.Bundles) != 4 {
		t.Fatalf("without the bundles of one package it has %+v, left out %+v", v.Bundles, v.LeftOut)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "catalog-images"))
	if err != nil || len(files) != 1 {
		t.Fatalf("there is %v, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Replace(text, []byte("sample-logging-bundle"), []byte("sample-logging-bungle"), -1)
	if err := os.WriteFile(files[0], damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	if v := view(dir, whole, "sample-logging-bundle"); len(v.LeftOut) != 3 {
		t.Errorf("a damaged list of images is believed: left out %+v", v.LeftOut)
	}
	content := filepath.Join(filepath.Dir(files[0]), "catalog-files", "sample-logging", "catalog.json")
	scramble(t, content)
	if v := view(dir, whole, "sample-logging-bundle"); len(v.LeftOut) != 3 {
		t.Errorf("from the list of images: left out %+v", v.LeftOut)
	}
}

// scramble puts other bytes into a file, as many as it has.
func scramble(t *testing.T, name string) {
	t.Helper()
	info, err := os.Stat(name)
	if err == nil {
		err = os.WriteFile(name, bytes.Repeat([]byte("x"), int(info.Size())), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestView_room(t *testing.T) {
	full := errors.New("the disk is full")
	v := catalog.View{Dir: t.TempDir(), Lacking: without(), Filter: named("sample-database"), Room: func() error { return full }}
	source := samples(t, sample.CatalogRepository)
	if _, err := v.Of(t.Context(), source, sample.CatalogTag); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
	if all, err := os.ReadDir(v.Dir); err != nil || len(all) > 0 {
		t.Errorf("there is %v, %v", all, err)
	}
}

func TestView_nothingIsWhole(t *testing.T) {
	view := viewer(t)
	dir := t.TempDir()
	v := view(dir, named("sample-database"), "database")
	source, root, err := v.Image(t.Context(), filepath.Join(dir, "made"))
	if err != nil || len(v.Bundles) != 0 || len(v.LeftOut) != 2 {
		t.Fatalf("it has %+v, left out %+v, %v", v.Bundles, v.LeftOut, err)
	}
	c, err := catalog.Find(t.Context(), source, root.String())
	if err != nil {
		t.Fatal(err)
	}
	at, err := c.Extract(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadDir(at)
	if err != nil || len(all) != 1 || all[0].Name() != ".indexignore" {
		t.Errorf("the catalog has %v, %v", all, err)
	}
}

func TestPruneViews(t *testing.T) {
	view := viewer(t)
	dir := t.TempDir()
	v := view(dir, named("sample-database"))
	if err := os.Mkdir(filepath.Join(dir, "old"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := catalog.PruneViews(dir, nil); err != nil {
		t.Fatal(err)
	}
	if all, _ := os.ReadDir(dir); len(all) != 0 {
		t.Errorf("there is %v", all)
	}
	view(dir, named("sample-database"))
	if err := catalog.PruneViews(dir, []digest.Digest{v.Original}); err != nil {
		t.Fatal(err)
	}
	if all, _ := os.ReadDir(dir); len(all) != 1 {
		t.Errorf("there is %v", all)
	}
	if err := catalog.PruneViews(filepath.Join(dir, "absent"), nil); err != nil {
		t.Error(err)
	}
}

// TestView_dependencies has a catalog of two packages, of which app requires lib.
func TestView_dependencies(t *testing.T) {
	l, from := newLayout(t), dependent(t)
	var files []string
	for _, pkg := range []string{"app", "lib"} {
		text, err := os.ReadFile(filepath.Join(from, pkg, "catalog.json"))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, "configs/"+pkg+"/catalog.json="+string(text))
	}
	root := l.image("amd64", labelled(), layer(t, files...))
	filter := named("app")
	filter.FollowDependencies = true
	bundles := func(absent ...string) (names string) {
		t.Helper()
		v, err := catalog.View{Filter: filter, Dir: t.TempDir(), Lacking: without(absent...)}.Of(t.Context(), l.open(root), root.Digest.String())
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range v.Bundles {
			names += b.Name + " "
		}
		for _, b := range v.LeftOut {
			names += "without " + b.Bundle + ": " + b.Reason
		}
		return names
	}
	if got := bundles(); got != "app.v1.0.0 lib.v1.0.0 " {
		t.Errorf("the view has %s", got)
	}
	if got := bundles("example.com/lib"); got != "app.v1.0.0 without lib.v1.0.0: image example.com/lib@"+ofLib+": it is absent" {
		t.Errorf("without what is required the view has %s", got)
	}
}

func TestView_anImageThatCannotBeMirrored(t *testing.T) {
	l := newLayout(t)
	const text = `{"schema":"olm.package","name":"p","defaultChannel":"s"}
{"schema":"olm.channel","package":"p","name":"s","entries":[{"name":"p.v1.0.0"},{"name":"p.v1.1.0","replaces":"p.v1.0.0"}]}
{"schema":"olm.bundle","package":"p","name":"p.v1.0.0","image":"example.com/p:v1","properties":[{"type":"olm.package","value":{"packageName":"p","version":"1.0.0"}}]}
{"schema":"olm.bundle","package":"p","name":"p.v1.1.0","image":"example.com/p:v2","relatedImages":[{"name":"x","image":""}],"properties":[{"type":"olm.package","value":{"packageName":"p","version":"1.1.0"}}]}
`
	root := l.image("amd64", labelled(), layer(t, "configs/p/catalog.json="+text))
	for _, filter := range []imageset.Operator{named("p"), {}} {
		v, err := catalog.View{Filter: filter, Dir: t.TempDir(), Lacking: without()}.Of(t.Context(), l.open(root), root.Digest.String())
		if err != nil {
			t.Fatal(err)
		}
		if len(v.Bundles) != 1 || v.Bundles[0].Name != "p.v1.0.0" || len(v.LeftOut) != 1 || !strings.Contains(v.LeftOut[0].Reason, "has no reference") {
			t.Errorf("the view has %+v, left out %+v", v.Bundles, v.LeftOut)
		}
	}
}
