package store

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// retag tags manifests of a repository in a run.
func (f *fixture) retag(repo string, tags map[string]digest.Digest) string {
	f.t.Helper()
	run, err := f.Runs.Begin(f.ctx, "sync")
	f.must(err)
	f.must(run.Tag(f.ctx, map[string]map[string]digest.Digest{repo: tags}))
	f.must(run.Commit(f.ctx))
	return run.ID()
}

// named returns what a tag names, "" if it does not exist.
func (f *fixture) named(repo, tag string) digest.Digest {
	f.t.Helper()
	m, err := f.Manifests.ByTag(f.ctx, repo, tag)
	if errors.Is(err, ErrNotFound) {
		return ""
	}
	f.must(err)
	return m.Digest
}

func TestRuns_Rollback_bringsTagsBack(t *testing.T) {
	f := newFixture(t)
	one, two := f.pushImage("a/b", "one", "moves", "same", "later"), f.pushImage("a/b", "two")
	run := f.retag("a/b", map[string]digest.Digest{"moves": two.Digest, "same": one.Digest, "new": two.Digest, "later": two.Digest})
	three := f.pushImage("a/b", "three", "later")

	planned, err := f.Runs.PlanRollback(f.ctx, run)
	f.must(err)
	if f.named("a/b", "moves") != two.Digest {
		t.Error("a plan has moved a tag")
	}
	f.clock.add(time.Second)
	done, err := f.Runs.Rollback(f.ctx, run)
	f.must(err)
	if len(planned.Moved) != 2 || len(done.Moved) != 2 || len(done.Left) != 1 || done.Left[0].Name != "later" || done.ID == "" || planned.ID != "" {
		t.Errorf("planned %+v, done %+v", planned, done)
	}
	want := map[string]digest.Digest{"moves": one.Digest, "same": one.Digest, "new": "", "later": three.Digest}
	for tag, d := range want {
		if got := f.named("a/b", tag); got != d {
			t.Errorf("%s names %q, want %q", tag, got, d)
		}
	}
	if _, err := f.Manifests.Get(f.ctx, "a/b", two.Digest); err != nil {
		t.Errorf("what the run brought is not read by digest: %v", err)
	}
	past, err := f.Runs.Past(f.ctx, 10, "", "")
	f.must(err)
	if len(past) != 2 || past[0].ID != done.ID || past[0].RollsBack() != run || past[1].ID != run || past[1].RollsBack() != "" || past[0].Tags != 2 || past[1].Tags != 3 {
		t.Errorf("the runs are %+v", past)
	}
	again, err := f.Runs.Rollback(f.ctx, run)
	f.must(err)
	if len(again.Moved) != 0 || len(again.Left) != 3 || again.ID != "" {
		t.Errorf("a second time: %+v", again)
	}
	if past, err = f.Runs.Past(f.ctx, -1, "", ""); err != nil || len(past) != 2 {
		t.Errorf("one that moved nothing is a run: %+v, %v", past, err)
	}
	_, err = f.Runs.Rollback(f.ctx, done.ID)
	f.must(err)
	if f.named("a/b", "moves") != two.Digest || f.named("a/b", "new") != two.Digest {
		t.Error("a rollback cannot be rolled back")
	}
	f.mustBeClean()
}

func TestRuns_Rollback_movesAllOrNone(t *testing.T) {
	f := newFixture(t)
	one, two := f.pushImage("a/b", "one", "v1"), f.pushImage("a/b", "two", "v2")
	three := f.pushImage("a/b", "three")
	run := f.retag("a/b", map[string]digest.Digest{"v1": three.Digest, "v2": three.Digest})
	f.must(f.Manifests.Delete(f.ctx, "a/b", two.Digest))
	for _, roll := range []func() error{
		func() error { _, err := f.Runs.Rollback(f.ctx, run); return err },
		func() error { _, err := f.Runs.PlanRollback(f.ctx, run); return err },
	} {
		if err := roll(); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "a/b:v2") {
			t.Errorf("a manifest that was deleted since: %v", err)
		}
	}
	if f.named("a/b", "v1") != three.Digest {
		t.Errorf("v1 moved, to %s", one.Digest)
	}
	open, err := f.Runs.Begin(f.ctx, "open")
	f.must(err)
	for _, id := range []string{open.ID(), "none", ""} {
		if _, err := f.Runs.Rollback(f.ctx, id); !errors.Is(err, ErrNotFound) {
			t.Errorf("run %q: %v", id, err)
		}
	}
}
