package views_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store"
)

// publisher returns a function that mirrors the sample's catalog as far/index:latest, with a file of
// another package that has some text.
func (f *fixture) publisher() func(other string) {
	f.Helper()
	f.mirror(index + database("1.0.0"))
	_, files, err := catalog.Load(f.Context(), repository{f.Store, "far/originals/index"}, "v4.18", f.TempDir())
	f.must(err)
	dir := filepath.Join(f.TempDir(), "index")
	f.must(os.CopyFS(dir, files))
	return func(other string) {
		f.Helper()
		f.must(os.MkdirAll(filepath.Join(dir, "other"), 0o755))
		text := `{"schema":"olm.package","name":"other","defaultChannel":"s","description":"` + other + `"}
{"schema":"olm.channel","package":"other","name":"s","entries":[{"name":"other.v1"}]}
{"schema":"olm.bundle","package":"other","name":"other.v1","image":"` + f.sample.Host() + `/samples/oci:v1","properties":[{"type":"olm.package","value":{"packageName":"other","version":"1.0.0"}}]}`
		f.must(os.WriteFile(filepath.Join(dir, "other", "c.json"), []byte(text), 0o600))
		f.mirror("\n  operators:\n  - {catalog: 'dir://" + dir + "', full: true}\n" + strings.TrimPrefix(database("1.0.0"), "\n  operators:\n"))
	}
}

// ofIndex is a view of the catalog that publisher mirrors.
func ofIndex() config.Catalog {
	view := stable("views/db:v1")
	view.Original = "far/index:latest"
	return view
}

// pushOver moves a tag of a view to another image, as a client does.
func (f *fixture) pushOver(tag string) digest.Digest {
	f.Helper()
	body := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	m, err := f.Manifests.Put(f.Context(), "views/db", body, store.PutOptions{Tags: []string{tag}, MediaType: "application/vnd.oci.image.index.v1+json"})
	f.must(err)
	return m.Digest
}

// TestViews_rolledBackWhileTheOriginalChanges has an original whose other packages change.
func TestViews_rolledBackWhileTheOriginalChanges(t *testing.T) {
	f := newFixture(t, ofIndex())
	publish := f.publisher()
	f.delete("operators/sample-database-operator", "v1.2.0")
	publish("one")
	f.delete("operators/sample-database-operator", "v1.2.0")
	first := f.one()
	f.shows("views/db", "v1", "database stable:1.0.0 1.1.0")
	publish("one")
	second := f.one()
	f.shows("views/db", "v1", "database stable:1.0.0 1.1.0 1.2.0")
	f.rollBack(second.Run)
	stays := func(want digest.Digest) {
		t.Helper()
		for range 2 {
			if s := f.one(); !s.RolledBack || s.Digest != want {
				t.Errorf("the state is %+v", s)
			}
			f.restart()
		}
	}
	stays(first.Digest)
	publish("two")
	stays(first.Digest)
	publish("three")
	stays(first.Digest)
	// its original is nowhere any more, since a client has deleted the copy by its digest
	if original := f.digest("views/db", "v1.original"); original == f.digest("far/index", "latest") {
		t.Errorf("the original is still %s", original)
	} else {
		f.must(f.Manifests.Delete(t.Context(), "views/db", original))
	}
	stays(first.Digest)
	f.pushOver("v1")
	stays(first.Digest)
	f.shows("views/db", "v1", "database stable:1.0.0 1.1.0")
	f.now = f.time().Add(3 * keep)
	stays(first.Digest)
	f.now = f.now.Add(keep)
	stays(first.Digest)
	f.delete("operators/sample-database-operator", "v1.1.0")
	if s := f.one(); s.RolledBack {
		t.Errorf("the state is %+v", s)
	}
	f.shows("views/db", "v1", "database stable:1.2.0")
	publish("four")
	if s := f.one(); s.RolledBack {
		t.Errorf("once it was another the state is %+v", s)
	}
	f.shows("views/db", "v1", "database stable:1.0.0 1.1.0 1.2.0")
}

// TestViews_rolledBackToNothing takes back the first run of a view.
func TestViews_rolledBackToNothing(t *testing.T) {
	f := newFixture(t, ofIndex())
	publish := f.publisher()
	publish("one")
	run := f.one().Run
	back := f.rollBack(run)
	publish("two")
	if s := f.one(); !s.RolledBack || f.digest("views/db", "v1") != "" {
		t.Errorf("the state is %+v", s)
	}
	f.pushOver("v1")
	if s := f.pass()[0]; !strings.Contains(s.Error, "was rolled back to nothing, and something else was pushed there") || !strings.Contains(s.Hint, back.ID) {
		t.Errorf("the state is %+v", s)
	}
	f.must(f.Tags.Delete(t.Context(), "views/db", "v1"))
	if s := f.one(); !s.RolledBack {
		t.Errorf("the state is %+v", s)
	}
	f.rollBack(back.ID)
	if s := f.one(); s.RolledBack {
		t.Errorf("the state is %+v", s)
	}
	f.shows("views/db", "v1", "database stable:1.0.0 1.1.0 1.2.0")
}

// TestViews_rolledBackAndPushedOver pushes over the tags of a view that was rolled back, and rolls the
// correction back.
func TestViews_rolledBackAndPushedOver(t *testing.T) {
	f := newFixture(t, stable("views/db:v1"))
	f.mirror(index + database("1.1.0"))
	first := f.one()
	f.mirror(index + database("1.0.0"))
	second := f.one()
	stays := func() string {
		t.Helper()
		s := f.one()
		if !s.RolledBack || s.Digest != first.Digest || f.digest("views/db", "v1.original") != first.OriginalDigest {
			t.Errorf("the state is %+v", s)
		}
		return s.Run
	}
	f.rollBack(second.Run)
	pushed := f.pushOver("v1") // before a pass has seen the rollback
	stays()
	f.pushOver("v1.original")
	stays()
	f.must(f.Tags.Delete(t.Context(), "views/db", "v1"))
	stays()
	f.pushOver("v1")
	correction := stays()
	if done := f.rollBack(correction); len(done.Moved) != 1 || done.Moved[0].Became != pushed {
		t.Errorf("rolled back %+v", done)
	}
	stays()
	f.restart()
	stays()
	f.must(f.Manifests.Delete(t.Context(), "views/db", first.Digest))
	if s := f.one(); s.RolledBack || s.Digest != second.Digest {
		t.Errorf("once its image is deleted the state is %+v", s)
	}
}

// TestViews_pushedOver rolls back the correction of a view that was never rolled back.
func TestViews_pushedOver(t *testing.T) {
	f := newFixture(t, stable("views/db:v1"))
	f.mirror(index + database("1.1.0"))
	want := f.one().Digest
	f.pushOver("v1")
	f.rollBack(f.one().Run)
	if s := f.one(); s.RolledBack || s.Digest != want {
		t.Errorf("the state is %+v", s)
	}
}

// TestViews_whatIsKeptOfAGoneOriginal pushes over and deletes the copy of an original.
func TestViews_whatIsKeptOfAGoneOriginal(t *testing.T) {
	f := newFixture(t, stable("views/db:v1"), stable("views/all:v1"))
	f.mirror(index + database("1.0.0"))
	before := f.pass()[0]
	f.must(f.Manifests.Delete(t.Context(), "far/originals/index", before.OriginalDigest))
	follows := func() {
		t.Helper()
		for _, s := range f.pass() {
			if s.Error != "" || !s.OriginalGone || s.Digest != before.Digest {
				t.Errorf("the state is %+v", s)
			}
		}
		if f.digest("views/db", "v1.original") != before.OriginalDigest {
			t.Error("the original is not kept")
		}
	}
	follows()
	f.pushOver("v1.original")
	follows()
	f.must(f.Tags.Delete(t.Context(), "views/db", "v1.original"))
	follows()
	f.must(f.Manifests.Delete(t.Context(), "views/db", before.OriginalDigest))
	follows()
	f.must(f.Manifests.Delete(t.Context(), "views/db", before.OriginalDigest))
	f.must(f.Manifests.Delete(t.Context(), "views/all", before.OriginalDigest))
	if s := f.pass()[0]; !strings.Contains(s.Error, "the original far/originals/index:v4.18 is not in this registry") || s.OriginalGone || s.Digest != before.Digest {
		t.Errorf("without a copy the state is %+v", s)
	}
}

// TestViews_imageSetOfTwoEntries has two entries of one catalog, and files that cannot be read.
func TestViews_imageSetOfTwoEntries(t *testing.T) {
	f := newFixture(t)
	f.mirror(index + database("1.0.0"))
	set := filepath.Join(f.dir, "set.yaml")
	write := func(text string) {
		f.must(os.WriteFile(set, []byte("kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\n"+text), 0o600))
	}
	write("mirror:\n  operators:\n  - catalog: x.io/a/b:v1\n    targetCatalog: one\n    packages: [{name: sample-database}]\n" +
		"  - catalog: x.io/a/b:v1\n    targetCatalog: two\n    packages: [{name: sample-logging}]\n")
	follow := func(entry string) {
		f.configure(config.Catalog{Name: "views/db:v1", Original: "far/originals/index:v4.18", Keep: keep, ImageSet: set, Entry: entry})
	}
	for _, entry := range []string{"", "x.io/a/b:v1"} {
		follow(entry)
		if s := f.pass()[0]; !strings.Contains(s.Error, "2 operator entries that can be meant") || !strings.Contains(s.Hint, "x.io/one:v1, x.io/two:v1") {
			t.Errorf("the state is %+v", s)
		}
	}
	follow("x.io/one:v1")
	f.one()
	f.shows("views/db", "v1", "database fast:1.2.0, database stable:1.2.0")
	f.must(os.WriteFile(set, nil, 0o600))
	if s := f.pass()[0]; s.Error == "" || strings.ContainsAny(s.Hint, "\n") {
		t.Errorf("the state is %+v", s)
	}
	f.must(os.Remove(set))
	if s := f.pass()[0]; strings.Contains(s.Hint, "--config") || !strings.Contains(s.Hint, "imageSet of the view") {
		t.Errorf("the state is %+v", s)
	}
}
