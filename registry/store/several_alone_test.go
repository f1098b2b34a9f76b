package store

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// A command that has the store alone collects nothing that the daemons told clients of before they stopped.
func TestSeveral_collectionByACommandOnPostgreSQL(t *testing.T) {
	head := func(f *fixture, d digest.Digest) { _, err := f.Blobs.Stat(f.ctx, "app", d); f.must(err) }
	for name, c := range map[string]struct {
		use  func(f *fixture, d digest.Digest)
		kept bool
	}{
		"nothing":    {func(*fixture, digest.Digest) {}, false},
		"a HEAD":     {head, true},
		"a mount":    {func(f *fixture, d digest.Digest) { _, err := f.Blobs.Mount(f.ctx, "other", "app", d); f.must(err) }, true},
		"a GET":      {func(f *fixture, d digest.Digest) { f.read("app", d) }, true},
		"an old GET": {func(f *fixture, d digest.Digest) { f.read("app", d); f.clock.add(2 * time.Hour) }, false},
		"an old HEAD": {func(f *fixture, d digest.Digest) {
			head(f, d)
			f.clock.add(2 * time.Hour)
		}, false},
		"a HEAD before the grace period, of a push under way": {func(f *fixture, d digest.Digest) {
			head(f, d)
			f.clock.add(5 * time.Minute)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := (&fixture{t: t, dir: t.TempDir(), several: true}).begin()
			d := f.blob("app", "used").Digest
			f.clock.add(time.Hour)
			c.use(f, d)
			before := f.clock.now()
			f.several = false
			f.reopen()
			planned := 0
			f.must(f.Garbage.GarbageBlobs(f.ctx, before, func(digest.Digest, int64) error { planned++; return nil }))
			removed, _, err := f.Garbage.RemoveBlobs(f.ctx, before, []digest.Digest{d})
			f.must(err)
			links, err := f.Garbage.RemoveLinks(f.ctx, before)
			f.must(err)
			if c.kept && planned+removed+links > 0 || !c.kept && (planned != 1 || removed != 1) {
				t.Errorf("%d blobs are planned and %d removed, and %d links", planned, removed, links)
			}
		})
	}
}
