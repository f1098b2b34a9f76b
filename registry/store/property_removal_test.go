package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

func (p *player) deleteManifest(s step) error {
	repo := p.repoOf(s.a)
	m := p.shownOf(repo, s.b)
	p.say("%s of %s", m.name, repo)
	whole := s.c%2 == 0
	var err error
	if whole {
		p.say("with what belongs to it")
		_, err = p.store.Manifests.DeleteImage(p.ctx, repo, m.digest)
	} else {
		err = p.store.Manifests.Delete(p.ctx, repo, m.digest)
	}
	r := p.model.repos[repo]
	if r == nil || r.manifests[m.digest].IsZero() {
		return p.expect("delete it", err, absent)
	}
	p.remove(repo, m.digest, whole)
	return errors.Join(err, p.planAtOnce())
}

// planAtOnce asks what is garbage without a grace period: what was deleted, but for what
// a push may still need.
func (p *player) planAtOnce() error {
	p.now = p.clock.add(time.Nanosecond)
	return p.makePlan(step{})
}

func (p *player) deleteBlob(s step) error {
	repo := p.repoOf(s.a)
	b := p.linkedOf(repo, s.b)
	p.say("%s of %s", b.name, repo)
	err := p.store.Blobs.Delete(p.ctx, repo, b.digest)
	r := p.model.repos[repo]
	if r == nil || r.blobs[b.digest].IsZero() {
		return p.expect("delete it", err, absent)
	}
	if p.needed(r, b.digest) {
		return p.expect("delete it", err, inUse)
	}
	delete(r.blobs, b.digest)
	p.unawait(repo, b.digest)
	return errors.Join(err, p.planAtOnce())
}

// leaveStray leaves what a crash between a file and its row leaves.
func (p *player) leaveStray(s step) error {
	b := p.blobOf(s.a)
	if p.has(b.digest) {
		return nil
	}
	p.say("a file of %s", b.name)
	path := p.path(b.digest)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(b.content), 0o600); err != nil {
		return err
	}
	placed := p.now
	if p.several {
		placed = placed.Truncate(time.Second) // as S3 tells it
	}
	p.strays[b.digest] = placed
	return os.Chtimes(path, placed, placed)
}

// ago is the moment that a grace period begins.
func (p *player) ago(n int) time.Time {
	grace := pick([]time.Duration{0, time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour}, n)
	p.say("of what is older than %s", grace)
	return p.now.Add(-grace)
}

// collect collects whatever there is to collect, and compares that with what there should be.
func (p *player) collect(s step) error {
	uploads, runs := p.ago(s.b), p.ago(s.c)
	if err := p.compareStale(uploads, runs); err != nil {
		return err
	}
	if err := p.dropStale(uploads, runs); err != nil {
		return err
	}
	if err := p.makePlan(s); err != nil {
		return err
	}
	if err := p.removeLinks(); err != nil {
		return err
	}
	return p.executePlan(s)
}

// removeLinks removes the links that no manifest needs, as of the plan.
func (p *player) removeLinks() error {
	want := 0
	for _, r := range p.model.repos {
		for d, linked := range r.blobs {
			if linked.Before(p.before) && !p.names(r, d) && !p.spared(d, p.before) {
				delete(r.blobs, d)
				want++
			}
		}
	}
	got, err := p.store.Garbage.RemoveLinks(p.ctx, p.before)
	if err == nil && got != want {
		err = fmt.Errorf("%d links were removed, not %d", got, want)
	}
	return err
}

// staleBefore returns before which the last access of a run is to be, to be stale.
func (p *player) staleBefore(before time.Time) time.Time {
	if p.several {
		return before.Add(-aliveFor)
	}
	return before
}

// compareStale compares the uploads and the runs that were not used since.
func (p *player) compareStale(uploads, runs time.Time) error {
	var got, want []string
	if err := p.store.Garbage.StaleUploads(p.ctx, uploads, func(id string, _ int64) error { got = append(got, "upload "+id); return nil }); err != nil {
		return err
	}
	if err := p.store.Garbage.StaleRuns(p.ctx, runs, func(id string) error { got = append(got, "run "+id); return nil }); err != nil {
		return err
	}
	for i, u := range p.model.uploads {
		if u != nil && !u.open && u.touched.Before(uploads) {
			want = append(want, "upload "+p.ids[i])
		}
	}
	for i, r := range p.model.runs {
		if r != nil && !r.gone && !r.committed && r.seen.Before(p.staleBefore(runs)) {
			want = append(want, "run "+p.runs[i].ID())
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		return fmt.Errorf("stale are %v; want %v", got, want)
	}
	return nil
}

// dropStale asks for all to be removed, those that are not stale as well.
func (p *player) dropStale(uploads, runs time.Time) error {
	for i, u := range p.model.uploads {
		if u == nil {
			continue
		}
		if _, err := p.store.Garbage.RemoveUpload(p.ctx, uploads, p.ids[i]); err != nil {
			return err
		}
		if !u.open && u.touched.Before(uploads) {
			p.model.uploads[i] = nil
		}
	}
	for i, r := range p.model.runs {
		if r == nil {
			continue
		}
		if err := p.store.Garbage.RemoveRun(p.ctx, runs, p.runs[i].ID()); err != nil {
			return err
		}
		if !r.gone && !r.committed && r.seen.Before(p.staleBefore(runs)) {
			p.model.runs[i] = &modelRun{gone: true}
		}
	}
	return nil
}

// makePlan lists garbage, and compares with what should be.
func (p *player) makePlan(s step) error {
	p.plan, p.before = nil, p.ago(s.a)
	err := p.store.Garbage.GarbageBlobs(p.ctx, p.before, func(d digest.Digest, _ int64) error { p.plan = append(p.plan, d); return nil })
	if err != nil {
		return err
	}
	var want []digest.Digest
	for _, b := range p.world.blobs {
		if p.garbage(b.digest, p.before) {
			want = append(want, b.digest)
		}
	}
	if got := p.list(p.plan); got != p.list(want) {
		return fmt.Errorf("garbage is %s; want %s", got, p.list(want))
	}
	return nil
}

// executePlan executes the last plan, however old it is, and asks for all blobs on top of that.
func (p *player) executePlan(s step) error {
	if p.before.IsZero() {
		return nil
	}
	if s.d%4 == 0 {
		p.plan = nil
		for _, b := range p.world.blobs {
			p.plan = append(p.plan, b.digest)
		}
	}
	p.say("removing %s", p.list(p.plan))
	removed, _, err := p.store.Garbage.RemoveBlobs(p.ctx, p.before, p.plan)
	if err != nil {
		return err
	}
	want := 0
	for _, d := range p.plan {
		if !p.garbage(d, p.before) {
			continue
		}
		want++
		delete(p.model.blobs, d)
		delete(p.strays, d)
		delete(p.checks, d)
		for _, r := range p.model.repos {
			delete(r.blobs, d)
		}
	}
	p.plan = nil
	if removed != want {
		return fmt.Errorf("%d blobs were removed, not %d", removed, want)
	}
	return nil
}
