package views_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
)

const catalogRepository = "far/redhat/redhat-operator-index"

// packages lists packages of the catalog, each as name, channels with versions, and what it lacks.
func (f *fixture) packages(repo string, q api.Page) (api.CatalogPackages, []string) {
	f.Helper()
	page, err := f.views.Packages(f.Context(), api.PackagesRequest{Place: api.Place{Repository: repo, Reference: "v4.18"}, Page: q})
	f.must(err)
	var lines []string
	for _, p := range page.Packages {
		if p.Lacking == nil {
			f.Fatalf("%s was not counted", p.Name)
		}
		line := strings.TrimPrefix(p.Name, "sample-")
		for _, c := range p.Channels {
			line += " " + c.Name + "=" + strings.Join(c.Versions, ",")
		}
		lines = append(lines, line)
		if *p.Lacking > 0 {
			lines[len(lines)-1] += " lacks " + string(rune('0'+*p.Lacking)) + " of " + string(rune('0'+p.Bundles))
		}
	}
	return page, lines
}

func TestViews_Packages(t *testing.T) {
	f := newFixture(t, stable("views/db:v1"))
	f.mirror(index) // no image of a bundle
	page, all := f.packages("far/originals/index", api.Page{})
	want := []string{"database fast=1.2.0,2.0.0 stable=1.0.0,1.1.0,1.2.0 lacks 4 of 4",
		"logging stable-5.8=5.8.0,5.8.1 stable-5.9=5.8.0,5.9.0 lacks 3 of 3"}
	if !slices.Equal(all, want) || page.Count != 2 || page.Bundles != 7 || page.More {
		t.Errorf("the catalog has %q: %+v", all, page)
	}
	if page, all := f.packages("far/originals/index", api.Page{Limit: 1}); len(all) != 1 || !page.More {
		t.Errorf("the first part is %q, %v", all, page.More)
	}
	if page, all := f.packages("far/originals/index", api.Page{Search: "LOG", After: "sample-database", Limit: 1}); len(all) != 1 || page.More || page.Packages[0].Name != "sample-logging" {
		t.Errorf("the last part is %q, %v", all, page.More)
	}
	if _, all := f.packages("far/originals/index", api.Page{Search: "kafka"}); len(all) != 0 {
		t.Errorf("a search finds %q", all)
	}
	f.mirror(database("1.0.0"))
	want[0] = "database fast=1.2.0,2.0.0 stable=1.0.0,1.1.0,1.2.0 lacks 1 of 4" // after the store has changed
	if _, all := f.packages("far/originals/index", api.Page{}); !slices.Equal(all, want) {
		t.Errorf("after a run the catalog has %q", all)
	}
	_, all = f.packages(catalogRepository, api.Page{})
	if !slices.Equal(all, []string{"database stable=1.0.0,1.1.0,1.2.0"}) {
		t.Errorf("the filtered catalog has %q", all)
	}
	f.one()
	held, err := f.views.Held(t.Context())
	f.must(err)
	if len(held) != 2 || held[0].Repository != catalogRepository || held[0].Tag != "v4.18" || held[0].Digest != f.digest(catalogRepository, "v4.18") ||
		!strings.HasSuffix(held[0].Origin, "/redhat/redhat-operator-index:v4.18") || held[0].View != "" || held[1].View != "views/db:v1" {
		t.Errorf("the catalogs are %+v", held)
	}
}

func TestViews_Package(t *testing.T) {
	f := newFixture(t)
	f.mirror(database("1.0.0"))
	ask := api.PackageRequest{Place: api.Place{Repository: catalogRepository, Reference: "v4.18"}, Package: "sample-database"}
	get := func(q api.PackageRequest) api.CatalogBundles {
		t.Helper()
		p, err := f.views.Package(t.Context(), q)
		f.must(err)
		return p
	}
	p := get(ask)
	if len(p.Listed) != 3 || p.Channel != "stable" || p.More || *p.Lacking != 0 || p.Listed[0].Version != "1.2.0" || p.Listed[0].Replaces != "sample-database.v1.1.0" ||
		p.Listed[2].Name != "sample-database.v1.0.0" || p.Listed[0].Images < 2 || !p.Listed[0].Counted || p.Listed[0].Lacking != nil {
		t.Errorf("the package is %+v", p)
	}
	ask.Channel, ask.After, ask.Limit = "stable", "sample-database.v1.2.0", 1
	if p := get(ask); len(p.Listed) != 1 || !p.More || p.Listed[0].Version != "1.1.0" {
		t.Errorf("the second part is %+v", p)
	}
	f.delete("operators/sample-database-bundle", "v1.1.0")
	if p := get(ask); *p.Lacking != 1 || len(p.Listed[0].Lacking) != 1 || !strings.Contains(p.Listed[0].Lacking[0].Reason, "absent from far/operators/sample-database-bundle") {
		t.Errorf("after a delete the second part is %+v", p)
	}
	for _, wrong := range []api.PackageRequest{{Place: ask.Place, Package: "absent"}, {Place: ask.Place, Package: "sample-database", Channel: "absent"},
		{Place: api.Place{Repository: catalogRepository, Reference: "absent"}, Package: "sample-database"}} {
		if p, err := f.views.Package(t.Context(), wrong); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%+v: %+v, %v", wrong, p, err)
		}
	}
	ask.Repository, ask.Reference = "far/operators/sample-database-bundle", string(f.digest("far/operators/sample-database-bundle", "v1.0.0"))
	if ask.Reference == "" {
		repo, d := f.image("operators/sample-database-bundle", "v1.0.0")
		ask.Repository, ask.Reference = repo, d.String()
	}
	if p := get(ask); !strings.Contains(p.Error, "not an operator catalog") || p.Hint == "" {
		t.Errorf("an image that is no catalog: %+v", p)
	}
}

// What was read of a catalog is read from its file after a restart, and removed after the catalog.
func TestViews_keepsListings(t *testing.T) {
	f := newFixture(t)
	f.mirror(index)
	f.packages("far/originals/index", api.Page{})
	original := f.digest("far/originals/index", "v4.18")
	file, work := filepath.Join(f.dir, "catalogs.listings", original.Encoded()), filepath.Join(f.dir, "catalogs")
	f.restart()
	f.must(os.RemoveAll(work))
	f.must(os.WriteFile(work, nil, 0o600)) // so that no catalog can be unpacked
	if _, all := f.packages("far/originals/index", api.Page{}); len(all) != 2 {
		t.Errorf("from the file: %q", all)
	}
	f.must(os.WriteFile(file, []byte("{}"), 0o600))
	f.restart()
	if page, _ := f.packages("far/originals/index", api.Page{}); page.Error == "" {
		t.Errorf("a damaged file is relied on: %+v", page)
	}
	f.must(os.Remove(work))
	f.packages("far/originals/index", api.Page{})
	f.must(f.Manifests.Delete(t.Context(), "far/originals/index", original))
	f.mirror(database("1.2.0"))
	f.packages(catalogRepository, api.Page{})
	if kept, err := os.ReadDir(filepath.Dir(file)); err != nil || len(kept) != 1 || kept[0].Name() == original.Encoded() {
		t.Errorf("the directory has %v, %v", kept, err)
	}
}
