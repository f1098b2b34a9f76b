package store

import (
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func TestTags_Moves(t *testing.T) {
	f := newFixture(t)
	one, two := f.pushImage("a/b", "one", "v1"), f.pushImage("a/b", "two")
	began := f.clock.now()
	f.clock.add(time.Minute)
	run := f.retag("a/b", map[string]digest.Digest{"v1": two.Digest})
	done, err := f.Runs.Rollback(f.ctx, run)
	f.must(err)
	f.must(f.Tags.Delete(f.ctx, "a/b", "v1"))
	moves, err := f.Tags.Moves(f.ctx, "a/b", "v1")
	f.must(err)
	if len(moves) != 4 {
		t.Fatalf("the moves are %+v", moves)
	}
	for n, want := range []Move{
		{Became: one.Digest}, {Was: one.Digest, Became: two.Digest, Run: PastRun{ID: run, Name: "sync"}},
		{Was: two.Digest, Became: one.Digest, Run: PastRun{ID: done.ID, Name: "rollback of " + run}}, {Was: one.Digest},
	} {
		got := moves[n]
		if got.Run.ID != "" && !got.Run.Committed.Equal(began.Add(time.Minute)) || n == 0 && !got.Moved.Equal(began) {
			t.Errorf("the time of move %d is %+v", n, got)
		}
		if got.Moved, got.Run.Committed = (time.Time{}), (time.Time{}); got != want {
			t.Errorf("move %d is %+v, want %+v", n, got, want)
		}
	}
	if moves, err := f.Tags.Moves(f.ctx, "x/y", "v1"); err != nil || len(moves) != 0 {
		t.Errorf("a tag that never existed has %v, %v", moves, err)
	}
}

func TestTags_Of(t *testing.T) {
	f := newFixture(t)
	one := f.pushImage("a/b", "one", "v2", "v1")
	f.pushImage("a/b", "two", "v3")
	f.pushImage("c", "one", "v4")
	tags, err := f.Tags.Of(f.ctx, "a/b", one.Digest)
	if err != nil || !slices.Equal(tags, []string{"v1", "v2"}) {
		t.Errorf("the tags are %v, %v", tags, err)
	}
}

func TestManifests_Whole(t *testing.T) {
	f := newFixture(t)
	one := f.pushImage("a/b", "one", "v1")
	f.pushImage("c", "one")
	whole := func(repo string, want bool) {
		t.Helper()
		got, err := f.Manifests.Whole(f.ctx, repo, one.Digest)
		if err != nil || got != want {
			t.Errorf("in %s it is whole: %t, %v", repo, got, err)
		}
	}
	whole("a/b", true)
	whole("x", false)
	f.exec(`DELETE FROM repository_blobs WHERE digest = ? AND repository = (SELECT id FROM repositories WHERE name = 'a/b')`, layerOf(one))
	whole("a/b", false)
	whole("c", true)
	f.must(f.checker().Quarantine(f.ctx, layerOf(one), 1, nil))
	whole("c", false)
	f.must(f.Manifests.Delete(f.ctx, "c", one.Digest))
	whole("c", false)
}

func TestStore_Changed(t *testing.T) {
	f := newFixture(t)
	first, second := f.Changed(), f.Changed()
	changed := func() bool {
		got := [2]bool{}
		for i, c := range []<-chan struct{}{first, second} {
			select {
			case <-c:
				got[i] = true
			default:
			}
		}
		if got[0] != got[1] {
			t.Errorf("of two receivers it tells one: %t", got)
		}
		return got[0]
	}
	signals := func(what string, want bool) {
		t.Helper()
		if got := changed(); got != want {
			t.Errorf("after %s it signals: %t", what, got)
		}
	}
	changed()
	layer := f.blob("a/b", "a layer alone")
	signals("a blob", false)
	one := f.pushImage("a/b", "one", "v1")
	signals("a push", true)
	signals("nothing", false)
	f.must(f.SetNote(f.ctx, "a", "b"))
	signals("a note", false)
	f.must(f.Users.Put(f.ctx, User{Name: "ci", Role: "push", PasswordHash: []byte("hash")}))
	signals("a new user", true)
	f.must(f.Tags.Delete(f.ctx, "a/b", "v1"))
	signals("the delete of a tag", true)
	f.mirror("v1", one.Digest, "quay.io/a/b:v1", "{}")
	signals("a run", true)
	f.mirror("v1", one.Digest, "quay.io/a/c:v1", "{}")
	signals("a run that records an origin and moves nothing", true)
	f.must(f.checker().Quarantine(f.ctx, layerOf(one), 1, nil))
	signals("damage", true)
	f.blob("a/b", "layer of one")
	signals("the return of a damaged blob", true)
	f.must(f.Blobs.Delete(f.ctx, "a/b", layer.Digest))
	changed()
	f.must(f.Manifests.Delete(f.ctx, "a/b", one.Digest))
	signals("the delete of an image", true)
}
