package mirror_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/resources"
)

// catalogTo is an entry of operators whose catalog is published at a path.
func catalogTo(path string) string {
	return "  - {catalog: HOST/redhat/redhat-operator-index:v4.18, targetCatalog: " + path + ", packages: [{name: sample-logging}]}\n"
}

// sources returns the images of the CatalogSources of the workspace, by their names.
func (s *setup) sources(t *testing.T) map[string]string {
	t.Helper()
	var files []resources.File
	for name, text := range s.resources(t) {
		files = append(files, resources.File{Name: name, Data: []byte(text)})
	}
	images, err := resources.SourceNames(files)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	for image, name := range images {
		names[name] = strings.TrimPrefix(image, "mirror.example.com:8443/")
	}
	return names
}

const myCat = "cs-my-cat-v4-18"

// warnings returns those about CatalogSources.
func warnings(all []string) (about []string) {
	for _, w := range all {
		if strings.Contains(w, "CatalogSource") {
			about = append(about, w)
		}
	}
	return about
}

// Subscriptions name the CatalogSource: it stays with its catalog.
//
// Spec: oc-mirror 5.8.
func TestRun_catalogKeepsItsName(t *testing.T) {
	recorded := regexp.MustCompile(`,"catalogSource(V1)?":"[^"]*"`)
	for name, forget := range map[string]func(text string) string{
		"that was recorded":               func(text string) string { return text },
		"that an earlier version gave it": func(text string) string { return recorded.ReplaceAllString(text, "") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t, "  operators:\n"+catalogTo("y/my-cat"))
			report, err := s.mirror(t)
			if err != nil || len(warnings(report.Warnings)) > 0 {
				t.Fatalf("%v, warnings %q", err, report.Warnings)
			}
			list := filepath.Join(s.workspace, "working-dir", "mirrored.json")
			before := s.read(t, "mirrored.json")
			if !recorded.MatchString(before) {
				t.Errorf("no name is recorded:\n%s", before)
			}
			if err := os.WriteFile(list, []byte(forget(before)), 0o644); err != nil {
				t.Fatal(err)
			}
			both := "  operators:\n" + catalogTo("a/my-cat") + catalogTo("y/my-cat")
			p, _, err := mirror.DryRun(t.Context(), s.options(t, both, s.beginning))
			if err != nil {
				t.Fatal(err)
			}
			report, err = s.again(t, both)
			if err != nil {
				t.Fatal(err)
			}
			for what, all := range map[string][]string{"the dry run": p.Warnings, "the run": report.Warnings} {
				all = warnings(all)
				if len(all) != 1 || !strings.Contains(all[0], "a/my-cat:v4.18 gets the CatalogSource "+myCat+"-") || !strings.Contains(all[0], ": "+myCat+" is that of mirror.example.com:8443/y/my-cat:v4.18") {
					t.Errorf("%s warns of %q", what, all)
				}
			}
			first := s.sources(t)
			if len(first) != 2 || first[myCat] != "y/my-cat:v4.18" {
				t.Errorf("the CatalogSources are %v", first)
			}
			for name := range first {
				if cc := "cc-" + strings.TrimPrefix(name, "cs-") + ".yaml"; !strings.Contains(s.read(t, "cluster-resources", cc), first[name]) {
					t.Errorf("%s is not of %s", cc, first[name])
				}
			}
			report, err = s.again(t, "  operators:\n"+catalogTo("a/my-cat"), func(o *mirror.Options) { o.OnlyThisRun = true })
			if only := s.sources(t); err != nil || len(only) != 1 || only[myCat] != "" || len(warnings(report.Warnings)) > 0 {
				t.Errorf("%v; of the newcomer alone there are %v, warnings %q", err, only, report.Warnings)
			}
		})
	}
}

func TestRun_catalogKeepsItsNameOfADefaultSource(t *testing.T) {
	defaults := func(o *mirror.Options) { o.DefaultSourceNames = true }
	s := newSetup(t, "  operators:\n"+catalogTo("y/redhat-operator-index"), defaults)
	if _, err := s.mirror(t); err != nil {
		t.Fatal(err)
	}
	report, err := s.again(t, "  operators:\n"+catalogTo("a/redhat-operator-index"), defaults)
	if all := warnings(report.Warnings); err != nil || len(all) != 1 || !strings.Contains(all[0], "redhat-operators is that of") {
		t.Errorf("%v, warnings %q", err, report.Warnings)
	}
	if got := s.sources(t); got["redhat-operators"] != "y/redhat-operator-index:v4.18" || len(got) != 2 {
		t.Errorf("the CatalogSources are %v", got)
	}
	if _, err := s.again(t, firstImage); err != nil {
		t.Fatal(err)
	}
	if got := s.sources(t); got["cs-redhat-operator-index-v4-18"] != "y/redhat-operator-index:v4.18" || len(got) != 2 {
		t.Errorf("without the flag the CatalogSources are %v", got)
	}
}

// The names that the registry serves count, by whatever name it calls itself.
func TestRun_catalogHasTheNameOfTheRegistry(t *testing.T) {
	served := map[string]string{"y/my-cat:v4.18": myCat}
	serves := func(o *mirror.Options) {
		o.Served = func(context.Context) (files []resources.File, err error) {
			for at, name := range served {
				files = append(files, resources.File{Name: name + ".yaml", Data: []byte("kind: CatalogSource\nmetadata: {name: " + name + "}\nspec: {image: \"other.name:8443/" + at + "\"}\n")})
			}
			return files, nil
		}
	}
	s := newSetup(t, "  operators:\n"+catalogTo("a/my-cat"))
	if _, err := s.mirror(t); err != nil || s.sources(t)[myCat] != "a/my-cat:v4.18" {
		t.Fatalf("%v, the CatalogSources are %v", err, s.sources(t))
	}
	report, err := s.again(t, "  operators:\n"+catalogTo("b/my-cat"), serves)
	if err != nil {
		t.Fatal(err)
	}
	if all := warnings(report.Warnings); len(all) != 2 || !strings.Contains(all[0], "and had "+myCat+" in this workspace") || !strings.Contains(all[1], "b/my-cat:v4.18 gets the CatalogSource") {
		t.Errorf("the warnings are %q", all)
	}
	got := s.sources(t)
	if got[myCat] != "" || len(got) != 2 {
		t.Errorf("the CatalogSources are %v", got)
	}
	served["b/my-cat:v4.18"] = "cs-of-the-registry"
	if _, err = s.again(t, "  operators:\n"+catalogTo("b/my-cat"), serves); err != nil || s.sources(t)["cs-of-the-registry"] != "b/my-cat:v4.18" {
		t.Errorf("%v, the CatalogSources are %v", err, s.sources(t))
	}
}

// Spec: oc-mirror 9.6.
func TestRun_catalogKeepsItsNameOfVersion1(t *testing.T) {
	v1 := func(day int) options {
		return func(o *mirror.Options) {
			at(day)(o)
			o.Config.V1 = true
		}
	}
	s := newSetup(t, "  operators:\n"+catalogTo("y/my-cat"), v1(1))
	if _, err := s.mirror(t); err != nil {
		t.Fatal(err)
	}
	report, err := s.again(t, "  operators:\n"+catalogTo("a/my-cat")+catalogTo("y/my-cat"), v1(2))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"cs-my-cat": "y/my-cat:", "cs-my-cat-1": "a/my-cat:"} {
		found := false
		for _, file := range report.ResourcesV1 {
			if filepath.Base(file) != "catalogSource-"+name+".yaml" {
				continue
			}
			text, err := os.ReadFile(file)
			found = err == nil && strings.Contains(string(text), want)
		}
		if !found {
			t.Errorf("%s is not of %s; there are %q", name, want, report.ResourcesV1)
		}
	}
}

// A user who sees a part of a registry gets the names that all get.
func TestResources_namesForAUser(t *testing.T) {
	var origins []mirror.Origin
	for _, repo := range []string{"a/i", "b/i"} {
		origins = append(origins, mirror.Origin{Repository: repo, Tag: "v1", About: []byte(`{"type":"operatorCatalog","origin":"up.io/i:v1"}`)})
	}
	files, err := mirror.Resources("m.io", "v1", origins, func(repository string) bool { return repository == "b/i" })
	if err != nil || len(files) == 0 || files[len(files)-2].Name != "cs-i-v1-eda15c.yaml" {
		t.Errorf("%v, files %+v", err, files)
	}
}
