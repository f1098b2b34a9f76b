package views_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/gc"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store"
)

// index is an image set's line that brings the original, and no image of a bundle.
const index = `
  additionalImages:
  - name: HOST/redhat/redhat-operator-index:v4.18
    targetRepo: originals/index
    targetTag: v4.18
`

// database mirrors bundles of one channel from a version upwards.
func database(from string) string {
	return `
  operators:
  - catalog: HOST/redhat/redhat-operator-index:v4.18
    packages:
    - name: sample-database
      channels:
      - name: stable
        minVersion: ` + from + "\n"
}

const keep = 24 * time.Hour

// stable is a view of one channel.
func stable(name string) config.Catalog {
	return config.Catalog{Name: name, Original: "far/originals/index:v4.18", Keep: keep, Packages: []imageset.Package{{
		Name: "sample-database", Channels: []imageset.PackageChannel{{Name: "stable", MinVersion: "1.0.0"}}}}}
}

// collect collects all that nothing refers to.
func (f *fixture) collect() {
	f.Helper()
	plan, err := gc.MakePlan(f.Context(), f.Garbage, gc.Options{Before: time.Now().Add(time.Hour)})
	f.must(err)
	_, err = plan.Execute(f.Context(), f.Garbage, nil)
	f.must(err)
}

func TestViews_followTheStore(t *testing.T) {
	f := newFixture(t, stable("views/db:v1"))
	f.mirror(index)
	state := f.one()
	f.shows("views/db", "v1", "the catalog has no packages")
	if state.Bundles != 0 || len(state.LeftOut) != 3 || !strings.Contains(state.LeftOut[0].Reason, "no run has mirrored it") {
		t.Errorf("before any bundle: %+v", state)
	}

	f.mirror(index + database("1.1.0"))
	state = f.one()
	f.shows("views/db", "v1", "database stable:1.1.0 1.2.0")
	if !slices.Equal(state.Packages, []string{"sample-database"}) || state.Bundles != 2 || len(state.LeftOut) != 1 || state.LeftOut[0].Bundle != "sample-database.v1.0.0" {
		t.Errorf("after a sync: %+v", state)
	}
	first := state.Digest
	if again := f.one(); again.Digest != first || len(f.past()) != 2 {
		t.Errorf("without a change there are %q", f.past())
	}

	f.mirror(index + database("1.0.0"))
	second := f.one().Digest
	f.shows("views/db", "v1", "database stable:1.0.0 1.1.0 1.2.0")

	f.delete("operators/sample-database-operator", "v1.2.0")
	state = f.one()
	f.shows("views/db", "v1", "database stable:1.0.0 1.1.0")
	if len(state.LeftOut) != 1 || !strings.Contains(state.LeftOut[0].Reason, "it is absent from far/operators/sample-database-operator, or not whole there") {
		t.Errorf("after a delete: %+v", state)
	}
	f.collect()
	if f.one().Digest != state.Digest {
		t.Error("a collection has changed the view")
	}
	f.shows("views/db", first.String(), "database stable:1.1.0 1.2.0")
	f.shows("views/db", second.String(), "database stable:1.0.0 1.1.0 1.2.0")

	for n, want := range []string{
		"sample-database.v1.2.0 went; of sample-database.v1.2.0 image ", "sample-database.v1.0.0 came",
		"sample-database.v1.1.0, sample-database.v1.2.0 came", "made first, with 0 bundles"} {
		if past := f.past(); len(past) != 4 || !strings.HasPrefix(past[n], "views/db:v1: "+want) {
			t.Errorf("the history is %q, want %q", past, want)
		}
	}

	f.mirror(index + database("1.0.0"))
	if state = f.one(); state.Digest != second {
		t.Errorf("once the image is back the view is %+v", state)
	}
}

// rollBack rolls the last run of a view back.
func (f *fixture) rollBack(run string) store.Rollback {
	f.Helper()
	done, err := f.Runs.Rollback(f.Context(), run)
	f.must(err)
	return done
}

func TestViews_rollback(t *testing.T) {
	f := newFixture(t, stable("views/db:v1"))
	f.mirror(index + database("1.1.0"))
	f.one()
	f.mirror(index + database("1.0.0"))
	state := f.one()
	back := f.rollBack(state.Run)
	t.Run("it stays while the view would be the same", func(t *testing.T) {
		for range 2 {
			if s := f.one(); !s.RolledBack || s.Run != back.ID {
				t.Errorf("the state is %+v", s)
			}
			f.shows("views/db", "v1", "database stable:1.1.0 1.2.0")
			f.restart()
		}
	})
	t.Run("it can be rolled back", func(t *testing.T) {
		f.rollBack(back.ID)
		if s := f.one(); s.RolledBack || s.Digest != state.Digest {
			t.Errorf("the state is %+v", s)
		}
	})
	t.Run("the next change ends it", func(t *testing.T) {
		f.rollBack(state.Run)
		f.one()
		f.delete("operators/sample-database-operator", "v1.2.0")
		if s := f.one(); s.RolledBack {
			t.Errorf("the state is %+v", s)
		}
		f.shows("views/db", "v1", "database stable:1.0.0 1.1.0")
	})
	t.Run("what was made before the rollback is shown again when it is due", func(t *testing.T) {
		f := newFixture(t, stable("views/db:v1"))
		f.mirror(index + database("1.1.0"))
		first := f.one().Digest
		f.mirror(index + database("1.0.0"))
		f.one()
		f.delete("operators/sample-database-operator", "v1.2.0")
		f.rollBack(f.one().Run)
		f.delete("operators/sample-database-operator", "v1.0.0")
		f.mirror(index + database("1.1.0"))
		if s := f.one(); s.RolledBack || s.Digest != first {
			t.Errorf("the state is %+v", s)
		}
	})
	t.Run("one of the run that brought the original is followed", func(t *testing.T) {
		view := stable("views/db:v1")
		view.Original = "far/redhat/redhat-operator-index:v4.18"
		f := newFixture(t, view)
		f.mirror(database("1.1.0"))
		before := f.one().Digest
		f.mirror(database("1.0.0"))
		past, err := f.Runs.Past(t.Context(), 1, "", "")
		f.must(err)
		f.one()
		f.shows("views/db", "v1", "database stable:1.0.0 1.1.0 1.2.0")
		f.rollBack(past[0].ID)
		if s := f.one(); s.RolledBack || s.Digest != before || !strings.Contains(s.Reason, "its original is ") || !strings.Contains(s.Reason, "sample-database.v1.0.0 went") {
			t.Errorf("the state is %+v", s)
		}
		f.shows("views/db", "v1", "database stable:1.1.0 1.2.0")
	})
}

func TestViews_aTagThatSomethingElseMoves(t *testing.T) {
	f := newFixture(t, stable("views/db:v1"))
	f.mirror(index + database("1.1.0"))
	want := f.one().Digest
	f.must(f.Tags.Delete(t.Context(), "views/db", "v1"))
	if s := f.one(); s.Digest != want || !strings.Contains(s.Reason, "its tag was deleted") {
		t.Errorf("after a delete of the tag: %+v", s)
	}
	f.must(f.Manifests.Delete(t.Context(), "views/db", want))
	if s := f.one(); s.Digest != want {
		t.Errorf("after a delete of the manifest: %+v", s)
	}
}

func TestViews_supersededStay(t *testing.T) {
	longer := stable("views/db:v2")
	longer.Keep = 3 * keep
	f := newFixture(t, stable("views/db:v1"), longer)
	f.mirror(index + database("1.1.0"))
	pinned := f.pass()[0].Digest
	if f.digest("views/db", "v2") != pinned {
		t.Error("two views with one filter are two images")
	}
	f.mirror(index + database("1.0.0"))
	f.pass()
	f.now = time.Now().Add(keep - time.Minute)
	f.pass()
	f.collect()
	f.shows("views/db", pinned.String(), "database stable:1.1.0 1.2.0")
	f.now = time.Now().Add(keep + time.Minute)
	f.pass()
	f.collect()
	f.shows("views/db", pinned.String(), "database stable:1.1.0 1.2.0") // for the other view

	m, err := f.Manifests.Get(t.Context(), "views/db", pinned)
	f.must(err)
	_, err = f.Manifests.Put(t.Context(), "views/db", m.Body, store.PutOptions{MediaType: m.MediaType, Tags: []string{"mine"}})
	f.must(err)
	f.now = time.Now().Add(3*keep + time.Minute)
	f.pass()
	f.shows("views/db", "mine", "database stable:1.1.0 1.2.0")

	f.delete("operators/sample-database-operator", "v1.2.0")
	superseded := f.digest("views/db", "v1")
	f.pass()
	f.now = f.now.Add(3*keep + time.Minute)
	f.pass()
	if _, err := f.Manifests.Get(t.Context(), "views/db", superseded); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after its time the superseded view is there: %v", err)
	}
	f.mirror(index + database("1.0.0"))
	f.pass()
	f.shows("views/db", "v1", "database stable:1.0.0 1.1.0 1.2.0")
	f.shows("views/db", "v1.original", f.catalog("far/originals/index", "v4.18"))
}

// TestViews_supersededOriginals has a view in the repository of its original, and one elsewhere.
func TestViews_supersededOriginals(t *testing.T) {
	near, far := stable("far/redhat/redhat-operator-index:view"), stable("views/db:v1")
	near.Original, far.Original = "far/redhat/redhat-operator-index:v4.18", "far/redhat/redhat-operator-index:v4.18"
	f := newFixture(t, near, far)
	f.mirror(database("1.1.0"))
	old := f.pass()[0].OriginalDigest
	f.mirror(database("1.0.0"))
	f.pass()
	f.now = time.Now().Add(keep + time.Minute)
	f.pass()
	if _, err := f.Manifests.Get(t.Context(), "far/redhat/redhat-operator-index", old); err != nil {
		t.Errorf("the original of before is gone: %v", err)
	}
	if _, err := f.Manifests.Get(t.Context(), "views/db", old); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("its copy is there: %v", err)
	}
	f.shows("views/db", "v1", "database stable:1.0.0 1.1.0 1.2.0")
}

// TestViews_left takes a view out of the configuration, after it was replaced, and deletes its tags later.
func TestViews_left(t *testing.T) {
	view := stable("views/db:v1")
	f := newFixture(t, view)
	f.mirror(index + database("1.1.0"))
	first := f.one()
	f.mirror(index + database("1.0.0"))
	second := f.one()
	has := func(want bool, some ...digest.Digest) {
		t.Helper()
		for _, d := range some {
			if _, err := f.Manifests.Get(t.Context(), "views/db", d); (err == nil) != want || err != nil && !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: %v", d, err)
			}
		}
	}
	f.configure()
	f.restart()
	f.now = time.Now().Add(keep - time.Minute)
	f.pass()
	has(true, first.Digest)
	f.now = time.Now().Add(keep + time.Minute)
	if all := f.pass(); len(all) != 0 {
		t.Errorf("the views are %+v", all)
	}
	has(false, first.Digest)
	has(true, second.Digest, second.OriginalDigest)
	f.shows("views/db", "v1", "database stable:1.0.0 1.1.0 1.2.0")
	f.shows("views/db", "v1.original", f.catalog("far/originals/index", "v4.18"))

	for _, tag := range []string{"v1", "v1.original"} {
		f.must(f.Tags.Delete(t.Context(), "views/db", tag))
	}
	deleted := f.now
	f.now = deleted.Add(keep - time.Minute)
	f.pass()
	has(true, second.Digest, second.OriginalDigest)
	f.now = deleted.Add(keep + time.Minute)
	f.pass()
	has(false, second.Digest, second.OriginalDigest)
	notes, err := f.Notes(t.Context(), "catalog ")
	if len(notes) != 0 || err != nil {
		t.Errorf("what is kept of the view: %q, %v", notes, err)
	}
	f.configure(view)
	if s := f.one(); s.Digest != second.Digest {
		t.Errorf("configured again, the state is %+v", s)
	}
}
