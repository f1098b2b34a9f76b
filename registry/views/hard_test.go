package views_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/gc"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store"
)

// state returns the state of a view.
func state(t *testing.T, all []api.CatalogView, name string) api.CatalogView {
	t.Helper()
	for _, v := range all {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("there is no view %s in %+v", name, all)
	return api.CatalogView{}
}

func TestViews_oneIsBroken(t *testing.T) {
	broken, unknown := stable("views/broken:v1"), stable("views/unknown:v1")
	broken.Original = "far/originals/absent:v1"
	unknown.Packages = []imageset.Package{{Name: "no-such-operator"}}
	f := newFixture(t, broken, unknown, stable("views/db:v1"))
	f.mirror(index + database("1.1.0"))
	all := f.pass()
	f.shows("views/db", "v1", "database stable:1.1.0 1.2.0")
	if s := state(t, all, "views/broken:v1"); !strings.Contains(s.Error, "the original far/originals/absent:v1 is not in this registry") || s.Hint == "" || s.Digest != "" {
		t.Errorf("a view without its original is %+v", s)
	}
	if s := state(t, all, "views/unknown:v1"); !strings.Contains(s.Error, `package "no-such-operator" does not exist in the catalog`) || s.Digest != "" {
		t.Errorf("a view of an unknown package is %+v", s)
	}
	if f.digest("views/unknown", "v1") != "" {
		t.Error("a filter that means nothing made an empty catalog")
	}
}

func TestViews_theOriginalIsDeleted(t *testing.T) {
	f := newFixture(t, stable("views/db:v1"))
	f.mirror(index + database("1.0.0"))
	before := f.one()
	f.must(f.Manifests.Delete(t.Context(), "far/originals/index", before.OriginalDigest))
	f.collect()
	if s := f.one(); !s.OriginalGone || s.Digest != before.Digest || s.OriginalDigest != before.OriginalDigest {
		t.Errorf("the view is %+v", s)
	}
	f.must(os.RemoveAll(filepath.Join(f.dir, "catalogs"))) // as after a restore
	f.delete("operators/sample-database-operator", "v1.2.0")
	if s := f.one(); !s.OriginalGone {
		t.Errorf("the view is %+v", s)
	}
	f.shows("views/db", "v1", "database stable:1.0.0 1.1.0")
	f.mirror(index + database("1.0.0"))
	if s := f.one(); s.OriginalGone || s.Digest != before.Digest {
		t.Errorf("once it is back the view is %+v", s)
	}
}

func TestViews_everyPlatform(t *testing.T) {
	f := newFixture(t, stable("views/db:v1"))
	f.mirror(index + database("1.1.0"))
	s := f.one()
	m, err := f.Manifests.Get(t.Context(), "views/db", s.Digest)
	f.must(err)
	for _, arch := range []string{"amd64", "arm64"} {
		if !strings.Contains(string(m.Body), `"architecture":"`+arch+`"`) {
			t.Errorf("the view has no image for %s: %s", arch, m.Body)
		}
	}
	t.Run("an image without one of its platforms is not whole", func(t *testing.T) {
		repo, d := f.image("operators/sample-database-operator", "v1.2.0")
		list, err := f.Manifests.Get(t.Context(), repo, d)
		f.must(err)
		child := digest.Digest(list.Body[strings.LastIndex(string(list.Body), "sha256:"):][:71])
		f.must(f.Manifests.Delete(t.Context(), repo, child))
		f.one()
		f.shows("views/db", "v1", "database stable:1.1.0")
	})
}

func TestViews_olderHeadUntilTheNewestIsWhole(t *testing.T) {
	bare := config.Catalog{Name: "views/heads:v1", Original: "far/originals/index:v4.18", Keep: keep, Packages: []imageset.Package{{
		Name: "sample-database", Channels: []imageset.PackageChannel{{Name: "stable"}}}}}
	f := newFixture(t, bare)
	f.mirror(index + database("1.0.0"))
	f.one()
	f.shows("views/heads", "v1", "database stable:1.2.0")
	f.delete("operators/sample-database-bundle", "v1.2.0")
	s := f.one()
	f.shows("views/heads", "v1", "database stable:1.1.0")
	if len(s.LeftOut) != 1 || s.LeftOut[0].Bundle != "sample-database.v1.2.0" {
		t.Errorf("left out is %+v", s.LeftOut)
	}
}

func TestViews_wholeCatalog(t *testing.T) {
	whole := config.Catalog{Name: "views/all:v1", Original: "far/originals/index:v4.18", Keep: keep, Full: true}
	f := newFixture(t, whole)
	f.mirror(index + "  operators:\n  - catalog: HOST/redhat/redhat-operator-index:v4.18\n    full: true\n")
	if s := f.one(); s.Digest != s.OriginalDigest || s.Bundles != 7 {
		t.Errorf("of which nothing lacks is %+v", s)
	}
	f.delete("operators/sample-logging-bundle", "v5.9.0")
	if s := f.one(); s.Digest == s.OriginalDigest || s.Bundles != 6 {
		t.Errorf("of which a bundle lacks is %+v", s)
	}
}

func TestViews_configurationChanges(t *testing.T) {
	f := newFixture(t, stable("views/db:v1"))
	f.mirror(index + database("1.0.0"))
	f.one()
	set := filepath.Join(f.dir, "set.yaml")
	write := func(from string) {
		text := "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n" + strings.ReplaceAll(database(from), "HOST", "x.io")
		f.must(os.WriteFile(set, []byte(text), 0o600))
	}
	write("1.1.0")
	f.configure(config.Catalog{Name: "views/db:v1", Original: "far/originals/index:v4.18", Keep: keep, ImageSet: set})
	if s := f.one(); !strings.Contains(s.Reason, "its filter changed; sample-database.v1.0.0 went") {
		t.Errorf("the state is %+v", s)
	}
	f.shows("views/db", "v1", "database stable:1.1.0 1.2.0")
	write("1.2.0") // without a restart
	f.one()
	f.shows("views/db", "v1", "database stable:1.2.0")

	f.must(os.WriteFile(set, []byte("kind: ImageSetConfiguration\nmirror: {}\n"), 0o600))
	if s := f.pass()[0]; !strings.Contains(s.Error, "has no operators") {
		t.Errorf("the state is %+v", s)
	}
	f.must(os.Remove(set))
	if s := f.pass()[0]; !strings.Contains(s.Error, set) || s.Bundles != 1 {
		t.Errorf("the state is %+v", s)
	}
	f.shows("views/db", "v1", "database stable:1.2.0")
	write("1.2.0")
	if s := f.one(); s.Error != "" {
		t.Errorf("the state is %+v", s)
	}
	f.configure(config.Catalog{Name: "views/db:v1", Original: "far/originals/index:v4.18", Keep: keep, ImageSet: set, Entry: "y.io/a:b"})
	if s := f.pass()[0]; !strings.Contains(s.Error, "no operator entry for catalog y.io/a:b") {
		t.Errorf("the state is %+v", s)
	}
}

func TestViews_frozen(t *testing.T) {
	view := func(at time.Time) config.Catalog {
		v := stable("views/db:v1")
		v.Original, v.Frozen = "far/redhat/redhat-operator-index:v4.18", config.Date(at.UTC().Format(time.RFC3339))
		return v
	}
	f := newFixture(t)
	begin := time.Now().Add(-10 * time.Hour)
	for n, from := range []string{"1.1.0", "1.0.0"} {
		f.now = begin.Add(time.Duration(n) * time.Hour)
		f.mirror(database(from))
	}
	f.now = begin.Add(2 * time.Hour)
	f.configure(view(begin.Add(30 * time.Minute)))
	frozen := f.one()
	f.shows("views/db", "v1", "database stable:1.1.0 1.2.0")

	f.mirror(database("1.2.0"))
	if f.one().Digest != frozen.Digest {
		t.Error("a frozen view has moved")
	}
	f.configure(view(begin.Add(90 * time.Minute)))
	later := f.one()
	f.shows("views/db", "v1", "database stable:1.0.0 1.1.0 1.2.0")

	// the copy beside the view is the original of another date, and of its digest, too
	f.must(f.Manifests.Delete(t.Context(), "far/redhat/redhat-operator-index", later.OriginalDigest))
	f.configure(view(begin.Add(95 * time.Minute)))
	if s := f.one(); s.Digest != later.Digest || !s.OriginalGone {
		t.Errorf("after the date was edited: %+v", s)
	}
	byDigest := stable("views/db:v1")
	byDigest.Original = "far/redhat/redhat-operator-index@" + later.OriginalDigest.String()
	f.configure(byDigest)
	if s := f.one(); s.OriginalDigest != later.OriginalDigest || !s.OriginalGone {
		t.Errorf("named by its digest: %+v", s)
	}

	f.configure(view(begin.Add(-time.Minute)))
	if s := f.pass()[0]; !strings.Contains(s.Error, "it was not in this registry before "+begin.UTC().Format("2006-01-02T15:04")) || s.Hint == "" {
		t.Errorf("before the original came: %+v", s)
	}
	f.configure(view(begin.Add(5 * time.Hour))) // not yet
	if s := f.one(); !s.ToFreeze {
		t.Errorf("the state is %+v", s)
	}
	f.shows("views/db", "v1", "database stable:1.2.0")
	f.mirror(database("1.1.0"))
	f.one()
	f.shows("views/db", "v1", "database stable:1.1.0 1.2.0")
}

// TestViews_frozenAndForgotten has a tag that pushes have moved more often than its history goes back.
func TestViews_frozenAndForgotten(t *testing.T) {
	f := newFixture(t)
	begin := time.Now().Add(-10 * time.Hour)
	f.now = begin
	f.mirror(index)
	other, err := f.Manifests.ByTag(t.Context(), "far/originals/index", "v4.18")
	f.must(err)
	f.now = begin.Add(time.Minute / 2)
	found := stable("views/found:v1")
	found.Frozen = config.Date(begin.Add(time.Second).UTC().Format(time.RFC3339))
	f.configure(found)
	f.one()
	for n := range 120 {
		f.now = begin.Add(time.Duration(n+1) * time.Minute)
		body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"n":"%d"}}`, n)
		_, err := f.Manifests.Put(t.Context(), "far/originals/index", body, store.PutOptions{Digest: digest.FromBytes(body), Tags: []string{"v4.18"}, MediaType: "application/vnd.oci.image.index.v1+json"})
		f.must(err)
	}
	f.now = begin.Add(5 * time.Hour)
	v := stable("views/db:v1")
	v.Frozen = config.Date(begin.Add(30*time.Second + time.Minute).UTC().Format(time.RFC3339))
	f.configure(v)
	if s := f.pass()[0]; !strings.Contains(s.Error, "pushes moved it too often since") {
		t.Errorf("the original was %s, the state is %+v", other.Digest, s)
	}
	f.configure(found)
	if s := state(t, f.pass(), found.Name); s.Error != "" || s.OriginalDigest != other.Digest {
		t.Errorf("one that had found its original before is %+v", s)
	}
	f.must(f.Tags.Delete(t.Context(), "far/originals/index", "v4.18"))
	f.now = f.now.Add(time.Minute)
	v.Frozen = config.Date(f.now.UTC().Format(time.RFC3339))
	f.configure(v)
	if s := f.pass()[0]; !strings.Contains(s.Error, "its tag was deleted then, since ") {
		t.Errorf("of a tag that was deleted the state is %+v", s)
	}
}

// TestViews_damage has a layer whose file is lost, and that comes back.
func TestViews_damage(t *testing.T) {
	f := newFixture(t, stable("views/db:v1"))
	f.mirror(index + database("1.1.0"))
	before := f.one().Digest
	repo, d := f.image("operators/sample-database-bundle", "v1.2.0")
	m, err := f.Manifests.Get(t.Context(), repo, d)
	f.must(err)
	layer := digest.Digest(m.Body[strings.LastIndex(string(m.Body), "sha256:"):][:71])
	f.must(os.Remove(filepath.Join(f.options.Storage, "sha256", layer.Encoded()[:2], layer.Encoded())))
	f.restart()
	if _, err := f.Blobs.Open(t.Context(), repo, layer); err == nil {
		t.Fatal("a layer without its file is read")
	}
	f.one()
	f.shows("views/db", "v1", "database stable:1.1.0")
	f.mirror(index + database("1.1.0"))
	if f.one().Digest != before {
		t.Error("once the layer is back the view is another")
	}
}

// TestViews_stoppedHalfWay ends a pass at each of its writes, and begins again.
func TestViews_stoppedHalfWay(t *testing.T) {
	f := newFixture(t, stable("views/db:v1"))
	f.mirror(index + database("1.1.0"))
	for after := time.Duration(0); f.digest("views/db", "v1") == ""; after += 3 * time.Millisecond {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		_, err := f.views.Runner().Run(ctx, api.CatalogsRequest{}, nil)
		cancel()
		if err == nil && f.digest("views/db", "v1") == "" {
			t.Fatal("a pass that was stopped has no error")
		}
		f.restart()
	}
	want := f.digest("views/db", "v1")
	f.shows("views/db", "v1", "database stable:1.1.0 1.2.0")
	if s := f.one(); s.Digest != want || len(f.past()) != 1 {
		t.Errorf("the state is %+v, the history %q", s, f.past())
	}
	f.must(f.SetNote(t.Context(), "catalog views/db:v1", "")) // as if it had ended after its run
	f.restart()
	if s := f.one(); s.Digest != want || len(f.past()) != 1 {
		t.Errorf("the state is %+v, the history %q", s, f.past())
	}
}

func TestViews_theStoreIsFull(t *testing.T) {
	f := newFixture(t, stable("views/db:v1"))
	f.mirror(index + database("1.1.0"))
	before := f.one()
	f.mirror(index + database("1.0.0"))
	f.options.MinFree = 1 << 60
	f.restart()
	s := f.pass()[0]
	if s.Error == "" || s.Digest != before.Digest {
		t.Errorf("the state is %+v", s)
	}
	f.must(os.RemoveAll(filepath.Join(f.dir, "catalogs")))
	if s := f.pass()[0]; s.Error == "" {
		t.Errorf("the state is %+v", s)
	}
	if _, err := os.Stat(filepath.Join(f.dir, "catalogs")); err == nil {
		t.Error("a catalog was unpacked on a disk that is full")
	}
	f.shows("views/db", "v1", "database stable:1.1.0 1.2.0")
	open, err := gc.MakePlan(t.Context(), f.Garbage, gc.Options{RunsBefore: time.Now().Add(time.Hour)})
	f.must(err)
	if len(open.Runs) != 0 {
		t.Errorf("the runs %v are open", open.Runs)
	}
	f.options.MinFree = 0
	f.restart()
	if s := f.one(); s.Digest == before.Digest {
		t.Errorf("with room there is %+v", s)
	}
}

func TestViews_whileCollecting(t *testing.T) {
	f := newFixture(t, stable("views/db:v1"))
	f.mirror(index + database("1.1.0"))
	done := make(chan struct{})
	var collecting sync.WaitGroup
	defer collecting.Wait()
	defer close(done)
	collecting.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				f.collect()
			}
		}
	})
	for n := range 3 {
		f.mirror(index + database([]string{"1.0.0", "1.1.0"}[n%2]))
		f.configure(stable(fmt.Sprintf("views/db:v%d", n)))
		f.one()
		f.shows("views/db", fmt.Sprintf("v%d", n), "database stable:1.0.0 1.1.0 1.2.0")
	}
}

// A package for which OLM would refuse the whole catalog, or that cannot be selected, is left out by
// its name, and the view follows the others.
func TestViews_aPackageIsBroken(t *testing.T) {
	const brokenPackage = `{"schema":"olm.package","name":"broken","defaultChannel":"s"}
{"schema":"olm.channel","package":"broken","name":"s","entries":[%s]}
{"schema":"olm.bundle","package":"broken","name":"broken.v1","image":"%s","properties":[{"type":"olm.package","value":{"packageName":"broken","version":"1.0.0"}}]}`
	view := config.Catalog{Name: "views/all:v1", Original: "far/index:latest", Keep: keep}
	f := newFixture(t, view)
	f.mirror(index + database("1.0.0"))
	dir := filepath.Join(t.TempDir(), "index")
	_, files, err := catalog.Load(t.Context(), repository{f.Store, "far/originals/index"}, "v4.18", t.TempDir())
	f.must(err)
	f.must(os.CopyFS(dir, files))
	f.must(os.Mkdir(filepath.Join(dir, "broken"), 0o755))
	published := func(entries string) {
		t.Helper()
		text := fmt.Sprintf(brokenPackage, entries, f.sample.Host()+"/samples/oci:v1")
		f.must(os.WriteFile(filepath.Join(dir, "broken", "c.json"), []byte(text), 0o600))
		f.mirror("\n  operators:\n  - {catalog: 'dir://" + dir + "', full: true}\n")
	}
	published(`{"name":"broken.v1"}`)
	f.one()
	f.shows("views/all", "v1", "broken s:1, database fast:2.0.0, database stable:1.2.0, logging stable-5.8:5.8.1, logging stable-5.9:5.9.0")
	for _, tc := range []struct{ entries, reason string }{
		{`{"name":"broken.v1"},{"name":"broken.v2","replaces":"broken.v1"}`, `entry "broken.v2" has no bundle`},
		{`{"name":"broken.v1","replaces":"broken.v1"}`, "replaces itself"},
	} {
		published(tc.entries)
		state := f.one()
		f.shows("views/all", "v1", "database fast:2.0.0, database stable:1.2.0, logging stable-5.8:5.8.1, logging stable-5.9:5.9.0")
		if len(state.LeftOut) != 1 || state.LeftOut[0].Package != "broken" || state.LeftOut[0].Bundle != "" || !strings.Contains(state.LeftOut[0].Reason, tc.reason) {
			t.Errorf("the state is %+v", state)
		}
		if past := f.past()[0]; !strings.Contains(past, "without package broken: ") || !strings.Contains(past, tc.reason) {
			t.Errorf("the history is %s", past)
		}
	}
	view.Packages = []imageset.Package{{Name: "sample-database"}, {Name: "broken"}}
	f.configure(view)
	f.one()
	f.shows("views/all", "v1", "database fast:2.0.0, database stable:1.2.0")
	published(`{"name":"broken.v1"}`)
	f.one()
	f.shows("views/all", "v1", "broken s:1, database fast:2.0.0, database stable:1.2.0")
}
