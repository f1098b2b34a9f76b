package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// What a deleted image has left in its repository is neither readable nor mountable there
// because another has it.
func TestStore_RemoveLinks(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("team/a", "app", "v1")
	f.pushImage("team/b", "app", "v1")
	layer := layerOf(m)
	listed := f.blob("team/a", "layer that an index lists, as of a cache")
	_, err := f.Manifests.Put(f.ctx, "team/a", index(listed), PutOptions{})
	f.must(err)
	remove := func(want int) {
		t.Helper()
		n, err := f.Garbage.RemoveLinks(f.ctx, f.clock.now().Add(-time.Hour))
		f.must(err)
		if n != want {
			t.Errorf("%d links removed, want %d", n, want)
		}
	}
	f.clock.add(48 * time.Hour)
	remove(0)
	f.must(f.Manifests.Delete(f.ctx, "team/a", m.Digest))
	_, err = f.Blobs.Stat(f.ctx, "team/a", layer)
	f.must(err)
	remove(1) // the config: a client was told just now that the layer is there
	f.clock.add(2 * time.Hour)
	remove(1)
	_, err = f.Blobs.Stat(f.ctx, "team/a", layer)
	isNotFound(t, err)
	_, err = f.Blobs.Open(f.ctx, "team/a", layer)
	isNotFound(t, err)
	_, err = f.Blobs.Mount(f.ctx, "other", "team/a", layer)
	isNotFound(t, err)
	_, err = f.Blobs.Stat(f.ctx, "team/a", listed.Digest)
	f.must(err)
	f.mustHave("team/b", "v1")
	f.mustBeClean()
}

// A store that was used for years has many of them: they go page by page.
func TestStore_RemoveLinks_pages(t *testing.T) {
	f := newFixture(t)
	f.corrupt(`INSERT INTO repositories (id, name, created) VALUES (7, 'old', 0)`)
	f.corrupt(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5001)
		INSERT INTO blobs (digest, size, created) SELECT printf('sha256:%064x', i), 1, 0 FROM n`)
	f.corrupt(`INSERT INTO repository_blobs (repository, digest, linked) SELECT 7, digest, 0 FROM blobs`)
	n, err := f.Garbage.RemoveLinks(f.ctx, f.clock.now())
	f.must(err)
	if left := f.count(`SELECT count(*) FROM repository_blobs`); n != 5001 || left != 0 {
		t.Errorf("%d links removed, %d left", n, left)
	}
}

// What came while the clock was ahead is collected a grace period after that is first seen.
func TestStore_ClampTimes(t *testing.T) {
	f := newFileFixture(t)
	f.clock.add(10 * 365 * 24 * time.Hour)
	blob := f.blob("app", "content")
	run, err := f.Runs.Begin(f.ctx, "run")
	f.must(err)
	f.reopen() // which forgets what is awaited
	stray := digest.FromString("stray")
	f.must(os.MkdirAll(filepath.Dir(f.path(stray)), 0o750))
	f.must(os.WriteFile(f.path(stray), []byte("stray"), 0o600))
	ahead := f.clock.now()
	f.must(os.Chtimes(f.path(stray), ahead, ahead))
	f.clock.add(-10 * 365 * 24 * time.Hour)

	garbage := func() (found int) {
		t.Helper()
		before := f.clock.now().Add(-time.Hour)
		f.must(f.Garbage.GarbageBlobs(f.ctx, before, func(digest.Digest, int64) error { found++; return nil }))
		f.must(f.Garbage.StaleRuns(f.ctx, before, func(string) error { found++; return nil }))
		return found
	}
	f.must(f.Garbage.ClampTimes(f.ctx))
	if n := garbage(); n != 0 {
		t.Errorf("at first sight %d are garbage", n)
	}
	f.clock.add(2 * time.Hour)
	f.must(f.Garbage.ClampTimes(f.ctx))
	if n := garbage(); n != 3 {
		t.Errorf("a grace period later %d are garbage: want %s, %s and run %s", n, blob.Digest, stray, run.ID())
	}
}

// Manifests go at once when they are deleted; the next collection accounts for them.
func TestStore_Dropped(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app", "v1")
	f.must(f.Manifests.Delete(f.ctx, "app", m.Digest))
	for i, want := range []int{1, 1, 0} {
		n, err := f.Garbage.Dropped(f.ctx, i == 1)
		f.must(err)
		if n != want {
			t.Errorf("%d: %d manifests, want %d", i, n, want)
		}
	}
}

// Rows whose file is gone or short promise nothing.
func TestStore_rowsWithoutTheirFile(t *testing.T) {
	for name, damage := range map[string]func(f *fixture, d digest.Digest){
		"gone":  func(f *fixture, d digest.Digest) { f.must(os.Remove(f.path(d))) },
		"short": func(f *fixture, d digest.Digest) { f.truncate(d, 2) },
	} {
		t.Run(name, func(t *testing.T) {
			for call, do := range map[string]func(f *fixture, m Manifest) error{
				"HEAD": func(f *fixture, m Manifest) error { _, err := f.Blobs.Stat(f.ctx, "app", layerOf(m)); return err },
				"mount": func(f *fixture, m Manifest) error {
					_, err := f.Blobs.Mount(f.ctx, "other", "app", layerOf(m))
					return err
				},
				"manifest": func(f *fixture, m Manifest) error {
					_, err := f.Manifests.Put(f.ctx, "app", m.Body, PutOptions{})
					return err
				},
				"run": func(f *fixture, m Manifest) error {
					r, err := f.Runs.Begin(f.ctx, "run")
					f.must(err)
					return r.PutManifest(f.ctx, "app", m.Descriptor(), m.Body)
				},
			} {
				f := newFixture(t)
				f.pushImage("app", "other")
				m := f.pushImage("app", "app", "v1")
				damage(f, layerOf(m))
				if err := do(f, m); !errors.Is(err, ErrNotFound) && !errors.As(err, new(*MissingError)) {
					t.Errorf("%s: got %v", call, err)
				}
				f.blob("app", "layer of app")
				f.must(do(f, m))
				f.mustHave("app", "v1")
			}
		})
	}
}

// Many rows from the future are settled in parts, and found by readers.
func TestStore_ClampTimes_inParts_SQLite(t *testing.T) {
	f := newFixture(t)
	f.fillFuture(clampBatch + 1)
	f.pushImage("app", "now")
	future := `SELECT count(*) FROM blobs WHERE created > ` + fmt.Sprint(database.Nanos(f.clock.now().Add(blobstore.ClockSlack)))
	left, most := f.count(future), 0
	f.afterCommits(func() {
		n := f.count(future)
		left, most = n, max(most, left-n)
	})
	f.must(f.Garbage.ClampTimes(f.ctx))
	for _, c := range datedColumns {
		if n := f.count(`SELECT count(*) FROM ` + c.table + ` WHERE ` + c.column + ` > ` + fmt.Sprint(database.Nanos(f.clock.now()))); n != 0 {
			t.Errorf("%d rows of %s are from the future", n, c.table)
		}
		if text := f.explain(c.update(), 1, 1, "[]"); !strings.HasPrefix(text, "SEARCH "+c.table+" USING PRIMARY KEY") {
			t.Errorf("the writer looks for rows of %s:\n%s", c.table, text)
		}
	}
	if most != clampBatch {
		t.Errorf("%d rows were changed in one transaction", most)
	}
}

// fillFuture fills each table that has times with rows from the future.
func (f *fixture) fillFuture(n int) {
	f.t.Helper()
	at := database.Nanos(f.clock.now().Add(1000 * time.Hour))
	f.corrupt(`INSERT INTO repositories (id, name, created) VALUES (7, 'future', 0)`)
	f.corrupt(fmt.Sprintf(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO blobs (digest, size, created) SELECT 'sha256:' || lower(hex(randomblob(32))), 1, %d FROM n`, n, at))
	f.corrupt(fmt.Sprintf(`INSERT INTO repository_blobs (repository, digest, linked) SELECT 7, digest, %d FROM blobs`, at))
	f.corrupt(fmt.Sprintf(`INSERT INTO repository_manifests (repository, digest, linked, used) SELECT 7, digest, 1, %d FROM blobs`, at))
	f.corrupt(fmt.Sprintf(`INSERT INTO runs (id, name, started, last_seen, committed) SELECT digest, 'run', 1, %d, 0 FROM blobs`, at))
}

// BenchmarkStore_ClampTimes reports how long others wait for it.
func BenchmarkStore_ClampTimes(b *testing.B) {
	f := newFixture(b)
	f.fillFuture(100_000)
	for b.Loop() {
		for _, t := range []struct{ table, column string }{{"blobs", "created"}, {"repository_blobs", "linked"}, {"repository_manifests", "used"}, {"runs", "last_seen"}} {
			f.exec(`UPDATE `+t.table+` SET `+t.column+` = ?`, database.Nanos(f.clock.now().Add(time.Hour)))
		}
		waited := f.longestWait(func() error { return f.Garbage.ClampTimes(f.ctx) })
		b.ReportMetric(float64(waited.Microseconds())/1000, "waited-ms")
	}
}
