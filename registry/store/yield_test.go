package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// quiet has the last read be long ago.
func (f *fixture) quiet() {
	f.reading.seen.Store(f.reading.count.Load())
	f.reading.when.Store(0)
}

// busy has reads come for as long as the test takes. pause is called instead of each pause.
func (f *fixture) busy(pause func(time.Duration)) {
	f.reading.when.Store(time.Now().Add(time.Hour).UnixNano())
	f.reading.pause = pause
}

func TestYielding_PausesForReadsOnly(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app", "v1")
	var pauses []time.Duration
	f.reading.pause = func(d time.Duration) { pauses = append(pauses, d) }
	long := func() *yielding { return &yielding{store: f.core, began: time.Now().Add(-time.Minute)} }
	f.quiet()
	turn, size := long(), stepSize{busy: 1, quiet: 100}
	if turn.size(size) != 100 || turn.over() || turn.yield(f.ctx) != nil || pauses != nil {
		t.Errorf("without a read steps have %d, and pauses are %v", turn.size(size), pauses)
	}
	for name, read := range map[string]func() error{
		"a manifest by tag":    func() error { _, err := f.Manifests.ByTag(f.ctx, "app", "v1"); return err },
		"a manifest by digest": func() error { _, err := f.Manifests.Get(f.ctx, "app", m.Digest); return err },
		"a blob":               func() error { _, err := f.Blobs.Stat(f.ctx, "app", layerOf(m)); return err },
	} {
		f.quiet()
		f.must(read())
		turn, pauses = long(), nil
		if turn.size(size) != 1 || !turn.over() || turn.yield(f.ctx) != nil || len(pauses) != 1 {
			t.Errorf("%s: steps have %d, and pauses are %v", name, turn.size(size), pauses)
		}
	}
	if pauses[0] > stepTime {
		t.Errorf("a pause of %s after a step that should take %s", pauses[0], stepTime)
	}
	ended, cancel := context.WithCancel(f.ctx)
	cancel()
	if err := turn.yield(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("it goes on after its end: %v", err)
	}
}

// While there are reads, a collection removes a few blobs in a transaction, pauses before each
// file, has the writer in no pause, and comes to its end.
func TestStore_RemoveBlobs_givesWayToReads(t *testing.T) {
	f := newFixture(t)
	var garbage []digest.Digest
	for i := range 3 * removeBatch.busy {
		garbage = append(garbage, f.blob("app", fmt.Sprint("blob ", i)).Digest)
	}
	f.clock.add(time.Hour)
	pauses, most, rows := 0, 0, len(garbage)
	f.busy(func(time.Duration) {
		pauses++
		f.must(f.db.Write(f.ctx, func(*sql.Tx) error { return nil }))
		left := f.count(`SELECT count(*) FROM blobs`)
		most, rows = max(most, rows-left), left
	})
	n, _, err := f.Garbage.RemoveBlobs(f.ctx, f.clock.now(), garbage)
	f.must(err)
	if n != len(garbage) || rows != 0 {
		t.Errorf("%d of %d blobs are removed", n, len(garbage))
	}
	if most > removeBatch.busy {
		t.Errorf("%d rows went in one transaction", most)
	}
	if pauses < len(garbage) {
		t.Errorf("%d pauses for %d files", pauses, len(garbage))
	}
	f.mustBeClean()
}

// Links go likewise.
func TestStore_RemoveLinks_givesWayToReads(t *testing.T) {
	f := newFixture(t)
	for i := range 2 * linkPage.busy {
		f.blob("app", fmt.Sprint("blob ", i))
	}
	f.clock.add(time.Hour)
	most, rows := 0, 2*linkPage.busy
	f.busy(func(time.Duration) {
		left := f.count(`SELECT count(*) FROM repository_blobs`)
		most, rows = max(most, rows-left), left
	})
	n, err := f.Garbage.RemoveLinks(f.ctx, f.clock.now())
	f.must(err)
	if n != 2*linkPage.busy || rows != 0 {
		t.Errorf("%d links are removed, %d left", n, rows)
	}
	if most > linkBatch.busy {
		t.Errorf("%d links went in one transaction", most)
	}
}
