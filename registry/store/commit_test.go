package store

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// stagedRows counts what runs have staged.
func (f *fixture) stagedRows() int {
	f.t.Helper()
	return f.count(`SELECT (SELECT count(*) FROM run_blobs) + (SELECT count(*) FROM run_manifests) + (SELECT count(*) FROM run_tags)`)
}

// Manifests and tags become visible in one transaction; blobs are linked in parts before it, and
// what was staged is cleared in parts after it, so that others have their turn.
func TestRun_Commit_inParts(t *testing.T) {
	f := newFixture(t)
	n := stagedRun{repositories: 3, manifests: 40, layers: 60, tags: 1200}
	r := f.stageRun(n)
	f.part = 0 // each step in a transaction of its own
	type state struct{ links, shown, staged int }
	var states []state
	f.afterCommits(func() {
		states = append(states, state{f.count(`SELECT count(*) FROM repository_blobs`),
			f.count(`SELECT (SELECT count(*) FROM repository_manifests) + (SELECT count(*) FROM tags) + (SELECT count(*) FROM tag_history)`), f.stagedRows()})
	})
	f.must(r.Commit(f.ctx))
	blobs, shown := n.manifests*n.layers, n.manifests+2*n.tags
	var before, after []int
	for _, s := range slices.Compact(states) {
		switch {
		case s.shown == 0 && s.staged == blobs+n.manifests+n.tags:
			before = append(before, s.links)
		case s.shown == shown && s.links == blobs:
			after = append(after, s.staged)
		default:
			t.Errorf("a state between two transactions: %+v", s)
		}
	}
	for name, counts := range map[string][]int{"links made before": before, "rows cleared after": after} {
		if len(counts) < 5 {
			t.Errorf("%s: all in few transactions: %v", name, counts)
		}
		for i := 1; i < len(counts); i++ {
			if d := max(counts[i]-counts[i-1], counts[i-1]-counts[i]); d > max(linkedStep, stagedStep) {
				t.Errorf("%s: %d in one transaction", name, d)
			}
		}
	}
	if last := after[len(after)-1]; last != 0 {
		t.Errorf("%d rows are left staged", last)
	}
}

// What a commit takes grows with what the run has staged, and not with what else there is.
func TestRun_Commit_plans_SQLite(t *testing.T) {
	f := newFixture(t)
	texts := map[string]string{"dangling tag": danglingTag, "new repositories": newRepositories,
		"clear tags": clearing("run_tags", "name", 1), "clear manifests": clearingManifests, "clear blobs": clearing("run_blobs", "digest", 1)}
	for name, all := range map[string][]string{"flip": flipping, "blobs": linkBlobs, "parts": linkReferences, "again": linkAgain} {
		for i, text := range all {
			texts[fmt.Sprint(name, " ", i)] = text
		}
	}
	for name, text := range texts {
		var args []any
		for i := 1; strings.Contains(text, fmt.Sprint("?", i)); i++ {
			args = append(args, []any{"run", 1, "[]", "", "", ""}[i-1])
		}
		for line := range strings.Lines(f.explain(text, args...)) {
			if strings.HasPrefix(line, "SCAN") && !strings.Contains(line, "VIRTUAL TABLE") && !strings.Contains(line, "(subquery") {
				t.Errorf("%s: %s", name, line)
			}
		}
	}
}

// A link that is removed between the parts of a commit and its end is made again, in
// whatever way it was removed.
func TestRun_Commit_linkRemovedMeanwhile(t *testing.T) {
	layer := digest.FromString("layer of new")
	for name, remove := range map[string]func(f *fixture){
		"by a client": func(f *fixture) { f.must(f.Blobs.Delete(f.ctx, "app", layer)) },
		"by collection": func(f *fixture) {
			f.clock.add(time.Hour)
			if n, err := f.Garbage.RemoveLinks(f.ctx, f.clock.now()); n == 0 || err != nil {
				f.t.Fatalf("%d links removed, %v", n, err)
			}
		},
		"very many": func(f *fixture) {
			f.must(f.db.Write(f.ctx, func(tx *sql.Tx) error {
				for _, text := range []string{
					`INSERT INTO repositories (id, name, created) VALUES (1000, 'many', 0)`,
					fmt.Sprintf(`INSERT INTO blobs (digest, size, created) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i <= %d)
						SELECT 'sha256:' || i, 0, 0 FROM n`, lostKept),
					`INSERT INTO repository_blobs (repository, digest, linked) SELECT 1000, digest, 0 FROM blobs WHERE size = 0`,
					`DELETE FROM repository_blobs WHERE repository = 1000`,
					`DELETE FROM repository_blobs`,
				} {
					if _, err := tx.Exec(text); err != nil {
						return err
					}
				}
				return nil
			}))
		},
		"into quarantine and back": func(f *fixture) {
			f.flip(layer)
			if damage, err := f.Integrity().ScrubBlob(f.ctx, layer, unpaced); damage == "" || err != nil {
				f.t.Fatalf("found %q, %v", damage, err)
			}
			f.must(f.Integrity().PutBack(f.ctx, layer, int64(len("layer of new")), strings.NewReader("layer of new")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.pushImage("elsewhere", "other") // so that the storage is not taken for one that is not mounted
			r, m := f.sync("app", "new", "v1")
			watch := f.cache.links.watch()
			defer f.cache.links.unwatch(watch)
			f.must(r.prepare(f.ctx))
			_, err := f.Blobs.Stat(f.ctx, "app", digest.FromString(`{"config of":"new"}`))
			f.must(err)
			_, err = f.Manifests.ByTag(f.ctx, "app", "v1")
			isNotFound(t, err)
			f.reopenGuard()
			remove(f)
			lost, many := watch.take()
			if len(lost) == 0 && !many {
				t.Error("nothing was noted")
			}
			if many {
				f.must(r.prepare(f.ctx))
			}
			f.must(f.db.Write(f.ctx, func(tx *sql.Tx) error { return r.flip(f.ctx, tx, lost) }))
			f.mustHave("app", "v1")
			for _, d := range []digest.Digest{layer, digest.FromString(`{"config of":"new"}`)} {
				if _, err := f.Blobs.Stat(f.ctx, "app", d); err != nil {
					t.Errorf("a blob of the image that was committed: %v", err)
				}
			}
			if _, err := f.Manifests.Get(f.ctx, "app", m.Digest); err != nil {
				t.Error(err)
			}
		})
	}
}

// reopenGuard has the store forget what clients were told.
func (f *fixture) reopenGuard() {
	f.guard = f.inMemory()
}

// While clients and collection remove links, what is committed has all of its blobs.
func TestRun_Commit_whileLinksAreRemoved(t *testing.T) {
	f := newFixture(t)
	f.part = 0
	ended := make(chan struct{})
	var layers []digest.Digest
	for i := range 20 {
		layers = append(layers, digest.FromString(fmt.Sprint("layer of ", i)))
	}
	removers := make(chan error, 2)
	remove := func(one func(i int) error) {
		for i := 0; ; i++ {
			select {
			case <-ended:
				removers <- nil
				return
			default:
				if err := one(i); err != nil && !errors.Is(err, ErrNotFound) && !errors.As(err, new(*InUseError)) {
					removers <- err
					return
				}
			}
		}
	}
	go remove(func(i int) error { return f.Blobs.Delete(f.ctx, "app", layers[i%len(layers)]) })
	go remove(func(int) error { _, err := f.Garbage.RemoveLinks(f.ctx, f.clock.add(time.Second)); return err })
	for i := range 20 {
		name := fmt.Sprint(i)
		r, m := f.sync("app", name, "v"+name)
		f.must(r.Commit(f.ctx))
		for _, d := range []digest.Digest{layerOf(m), digest.FromString(`{"config of":"` + name + `"}`)} {
			if _, err := f.Blobs.Stat(f.ctx, "app", d); err != nil {
				t.Errorf("a blob of image %d: %v", i, err)
			}
		}
	}
	close(ended)
	f.must(errors.Join(<-removers, <-removers))
}

// What a commit has linked before it failed, or was killed, goes with a collection
// once the run is aborted.
func TestRun_Abort_afterPartsOfACommit(t *testing.T) {
	f := newFixture(t)
	r, m := f.sync("app", "new", "v1")
	f.must(r.prepare(f.ctx))
	f.reopen()
	r, err := f.Runs.Get(f.ctx, r.ID())
	f.must(err)
	_, err = f.Manifests.Get(f.ctx, "app", m.Digest)
	isNotFound(t, err)
	f.must(r.Abort(f.ctx))
	f.clock.add(48 * time.Hour)
	n, err := f.Garbage.RemoveLinks(f.ctx, f.clock.now().Add(-24*time.Hour))
	f.must(err)
	if left := f.count(`SELECT count(*) FROM repository_blobs`); n != 2 || left != 0 {
		t.Errorf("%d links removed, %d left", n, left)
	}
	if n := len(f.garbage(f.clock.now().Add(-24 * time.Hour))); n != 2 {
		t.Errorf("%d blobs are garbage", n)
	}
	if n := f.count(`SELECT count(*) FROM manifests`); n != 0 {
		t.Errorf("%d manifests are left", n)
	}
}

// A run that is being committed is left alone: by those who would change it, and by collection.
func TestRun_Commit_refusesMeanwhile(t *testing.T) {
	f := newFixture(t)
	r, m := f.sync("app", "new", "v1")
	f.must(f.guard.Runs.EnterCommit(f.ctx, r.id))
	var invalid *InvalidError
	for what, err := range map[string]error{
		"abort":    r.Abort(f.ctx),
		"tag":      r.Tag(f.ctx, tagged("app", "v2", m.Digest)),
		"blob":     r.PutBlob(f.ctx, "app", descriptor("x/y", []byte("x")), strings.NewReader("x")),
		"manifest": r.PutManifest(f.ctx, "app", descriptor(ocispec.MediaTypeImageManifest, m.Body), m.Body),
	} {
		if !errors.As(err, &invalid) || !strings.Contains(err.Error(), "being committed") {
			t.Errorf("%s: %v", what, err)
		}
	}
	f.clock.add(time.Hour)
	f.must(f.Garbage.RemoveRun(f.ctx, f.clock.now(), r.ID()))
	committed := make(chan error)
	go func() { committed <- r.Commit(f.ctx) }() // waits for the other, or comes after it
	f.guard.Runs.LeaveCommit(r.id)
	f.must(<-committed)
	f.mustHave("app", "v1")
}

// What a commit leaves that was killed at its end does not keep blobs from the next collection.
func TestStore_GarbageBlobs_afterACommitWasKilled(t *testing.T) {
	f := newFixture(t)
	r, m := f.sync("app", "new", "v1")
	f.must(r.prepare(f.ctx))
	f.must(f.db.Write(f.ctx, func(tx *sql.Tx) error { return r.flip(f.ctx, tx, nil) }))
	f.reopen()
	f.must(f.Manifests.Delete(f.ctx, "app", m.Digest))
	if n := len(f.garbage(f.clock.add(time.Hour))); n != 2 {
		t.Errorf("%d blobs are garbage", n)
	}
}

// A manifest that is deleted at the last moment is named, and nothing is shown.
func TestRun_Commit_manifestDeletedMeanwhile(t *testing.T) {
	f := newFixture(t)
	old := f.pushImage("app", "old", "v0")
	r, m := f.sync("app", "new", "v1")
	f.must(r.Tag(f.ctx, tagged("app", "v2", old.Digest)))
	f.must(r.prepare(f.ctx))
	f.must(f.Manifests.Delete(f.ctx, "app", old.Digest))
	err := f.db.Write(f.ctx, func(tx *sql.Tx) error { return r.flip(f.ctx, tx, nil) })
	isNotFound(t, err)
	if !strings.Contains(err.Error(), old.Digest.String()) {
		t.Errorf("got %v", err)
	}
	_, err = f.Manifests.Get(f.ctx, "app", m.Digest)
	isNotFound(t, err)
}

// Of two runs that set the same tag the later commit has it, whichever began to link
// its blobs first.
func TestRun_Commit_interleaved(t *testing.T) {
	f := newFixture(t)
	one, first := f.sync("app", "one", "v1")
	two, second := f.sync("app", "two", "v1")
	f.must(two.prepare(f.ctx))
	f.must(one.prepare(f.ctx))
	f.must(one.Commit(f.ctx))
	f.must(two.Commit(f.ctx))
	got, err := f.Manifests.ByTag(f.ctx, "app", "v1")
	f.must(err)
	if got.Digest != second.Digest {
		t.Errorf("the tag names %s", got.Digest)
	}
	moves, err := f.Tags.history(f.ctx, "app", "v1")
	f.must(err)
	if len(moves) != 2 || moves[0].Run != two.ID() || moves[0].Was != first.Digest || moves[1].Run != one.ID() || moves[1].Was != "" {
		t.Errorf("history %+v", moves)
	}
}

// A committed run whose rows were not cleared is committed all the same. Maintain clears them, and
// drops what was deleted meanwhile.
func TestStore_Maintain_clearsEndedRuns(t *testing.T) {
	f := newFixture(t)
	committed, m := f.sync("app", "new", "v1")
	f.must(committed.prepare(f.ctx))
	f.must(f.db.Write(f.ctx, func(tx *sql.Tx) error { return committed.flip(f.ctx, tx, nil) }))
	gone, _ := f.sync("app", "gone", "v2")
	f.must(f.db.Write(f.ctx, func(tx *sql.Tx) error { return abort(f.ctx, tx, gone.ID()) }))
	open, _ := f.sync("app", "open", "v3")
	f.reopen()
	_, err := f.Runs.Get(f.ctx, gone.ID())
	isNotFound(t, err)
	gone = &Run{store: f.core, id: gone.ID()}
	isNotFound(t, gone.Commit(f.ctx))
	isNotFound(t, gone.Abort(f.ctx))
	committed, err = f.Runs.Get(f.ctx, committed.ID())
	f.must(err)
	f.must(committed.Commit(f.ctx))
	var invalid *InvalidError
	if err := committed.Tag(f.ctx, tagged("app", "v4", m.Digest)); !errors.As(err, &invalid) {
		t.Errorf("a committed run is tagged: %v", err)
	}
	f.must(f.Garbage.StaleRuns(f.ctx, f.clock.now().Add(time.Hour), func(id string) error {
		if id != open.ID() {
			t.Errorf("%s is stale", id)
		}
		return nil
	}))
	f.must(f.Manifests.Delete(f.ctx, "app", m.Digest))
	f.must(f.Maintain(f.ctx))
	if n := f.stagedRows(); n != 4 {
		t.Errorf("%d rows are staged; 4 are those of the open run", n)
	}
	if n := f.count(`SELECT count(*) FROM manifests`); n != 1 {
		t.Errorf("%d manifests are left; 1 is that of the open run", n)
	}
	open, err = f.Runs.Get(f.ctx, open.ID())
	f.must(err)
	f.must(open.Commit(f.ctx))
	f.mustHave("app", "v3")
}
