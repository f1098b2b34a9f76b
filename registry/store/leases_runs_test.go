//go:build s3

package store

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// staged begins a run with an image of a blob.
func (f *fixture) staged(content string) (r *Run, manifest, blob digest.Digest) {
	f.t.Helper()
	r, err := f.Runs.Begin(f.ctx, "run")
	f.must(err)
	manifest, blob = f.stageIn(r, content)
	return r, manifest, blob
}

func (f *fixture) stageIn(r *Run, content string) (manifest, blob digest.Digest) {
	f.t.Helper()
	desc := descriptor(ocispec.MediaTypeImageConfig, []byte(content))
	f.must(r.PutBlob(f.ctx, "app", desc, strings.NewReader(content)))
	body := manifestOf(desc)
	m := descriptor(ocispec.MediaTypeImageManifest, body)
	f.must(r.PutManifest(f.ctx, "app", m, body))
	return m.Digest, desc.Digest
}

func (f *fixture) run(id string) *Run {
	f.t.Helper()
	r, err := f.Runs.Get(f.ctx, id)
	f.must(err)
	return r
}

func TestDaemons_runGoesOnElsewhereOnPostgreSQL(t *testing.T) {
	s := newDaemons(t)
	r, first, _ := s.a.staged("first")
	second, blob := s.b.stageIn(s.b.run(r.ID()), large(3))
	s.a.must(s.a.run(r.ID()).Tag(s.a.ctx, map[string]map[string]digest.Digest{"app": {"v1": first, "v2": second}}))
	s.b.must(s.b.run(r.ID()).Commit(s.b.ctx))
	s.a.must(r.Commit(s.a.ctx)) // the answer was lost
	if m, err := s.a.Manifests.ByTag(s.a.ctx, "app", "v2"); err != nil || m.Digest != second {
		t.Errorf("the tag is %s, %v", m.Digest, err)
	}
	s.a.whole(blob, large(3))
}

// While one daemon commits a run, another one neither changes nor aborts it, and a second commit waits.
func TestDaemons_commitIsOfOneDaemonOnPostgreSQL(t *testing.T) {
	s := newDaemons(t)
	r, _, _ := s.a.staged("run")
	s.a.must(s.a.guard.Runs.EnterCommit(s.a.ctx, r.ID()))
	theirs := s.b.run(r.ID())
	var invalid *InvalidError
	if err := theirs.PutBlob(s.b.ctx, "app", descriptor("", []byte("late")), strings.NewReader("late")); !errors.As(err, &invalid) {
		t.Errorf("a put: %v", err)
	}
	if err := theirs.Abort(s.b.ctx); !errors.As(err, &invalid) {
		t.Errorf("an abort: %v", err)
	}
	before := s.b.clock.add(time.Hour)
	s.b.must(s.b.Garbage.RemoveRun(s.b.ctx, before, r.ID()))
	s.b.run(r.ID()) // which is there
	committed := make(chan error, 1)
	go func() { committed <- theirs.Commit(s.b.ctx) }()
	select {
	case err := <-committed:
		t.Errorf("a second commit did not wait: %v", err)
	case <-time.After(200 * time.Millisecond): // it may be slower than that, and waits then too
	}
	s.a.die(s.b) // in the middle of it
	s.b.must(<-committed)
	s.a.must(s.a.db.(renewer).Renew(s.a.ctx))
	s.a.guard.Runs.LeaveCommit(r.ID())
	s.a.must(r.Commit(s.a.ctx))
}

// A link that another daemon deletes between the first step of a commit and the last is made again.
func TestDaemons_linksLostInACommitOnPostgreSQL(t *testing.T) {
	s := newDaemons(t)
	r, manifest, blob := s.a.staged("linked early")
	deleted := 0
	end := s.a.afterCommits(func() {
		if err := s.b.Blobs.Delete(s.b.ctx, "app", blob); err == nil {
			deleted++
		}
	})
	s.a.must(r.Commit(s.a.ctx))
	end()
	if _, err := s.b.Manifests.Get(s.b.ctx, "app", manifest); err != nil || deleted == 0 {
		t.Fatalf("%v after %d deletions", err, deleted)
	}
	s.b.whole(blob, "linked early")
	if n := s.a.rows(`SELECT count(*) FROM lost_links`); n != 0 {
		t.Errorf("%d links are kept after the commit", n)
	}
}

// A daemon that has lost its lease shows no run: links that were deleted meanwhile are not known.
func TestDaemons_lostCommitOnPostgreSQL(t *testing.T) {
	s := newDaemons(t)
	r, manifest, _ := s.a.staged("run")
	died := false
	end := s.a.afterCommits(func() {
		if died {
			return
		}
		if n := s.b.rows(`SELECT count(*) FROM repository_blobs`); n == 1 { // linked, and not shown yet
			died = true
			s.a.die(s.b)
			s.b.must(s.b.guard.shared.Tidy(s.b.ctx))
			s.a.must(s.a.db.(renewer).Renew(s.a.ctx))
		}
	})
	err := r.Commit(s.a.ctx)
	end()
	if _, shown := s.b.Manifests.Get(s.b.ctx, "app", manifest); !died || !errors.Is(err, ErrUnavailable) || !errors.Is(shown, ErrNotFound) {
		t.Errorf("died %v, commit %v, shown %v", died, err, shown)
	}
	s.b.must(s.b.run(r.ID()).Commit(s.b.ctx))
}

// A run that one daemon uses is not stale for another.
func TestDaemons_collectionOfRunsOnPostgreSQL(t *testing.T) {
	s := newDaemons(t)
	r, _, _ := s.a.staged("run")
	s.a.guard.Runs.Enter(r.ID()) // a large blob is on its way
	s.a.clock.add(time.Hour)
	s.a.must(s.a.guard.shared.Tidy(s.a.ctx))
	before := s.b.clock.add(time.Second)
	s.b.must(s.b.Garbage.RemoveRun(s.b.ctx, before, r.ID()))
	s.b.run(r.ID())
	s.a.guard.Runs.Leave(r.ID())
	before = s.b.clock.add(time.Hour)
	s.b.must(s.b.Garbage.RemoveRun(s.b.ctx, before, r.ID()))
	_, err := s.a.Runs.Get(s.a.ctx, r.ID())
	isNotFound(t, err)
}
