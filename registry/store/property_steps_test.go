package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// kind is a kind of step, and how often it comes.
type kind struct {
	name   string
	weight int
	play   func(p *player, s step) error
}

func kinds() []kind {
	return []kind{
		{"tick", 7, (*player).tick},
		{"push", 9, (*player).pushAll},
		{"blob", 5, (*player).pushBlob},
		{"manifest", 4, (*player).pushManifest},
		{"pulled", 1, (*player).pushPulled},
		{"mount", 3, (*player).mount},
		{"check", 6, (*player).check},
		{"tag", 4, (*player).moveTag},
		{"untag", 3, (*player).deleteTag},
		{"delete", 6, (*player).deleteManifest},
		{"unlink", 3, (*player).deleteBlob},
		{"stray", 1, (*player).leaveStray},
		{"gc", 6, (*player).collect},
		{"plan", 2, (*player).makePlan},
		{"execute", 2, (*player).executePlan},
		{"upload", 3, (*player).beginUpload},
		{"write", 4, (*player).writeUpload},
		{"pause", 1, (*player).pauseUpload},
		{"finish", 3, (*player).finishUpload},
		{"cancel", 1, (*player).cancelUpload},
		{"run", 2, (*player).beginRun},
		{"run push", 5, (*player).runPush},
		{"run has", 4, (*player).runHas},
		{"run blob", 2, (*player).runBlob},
		{"run tag", 3, (*player).runTag},
		{"run commit", 2, (*player).runCommit},
		{"run halfway", 1, (*player).runHalfway},
		{"run abort", 1, (*player).runAbort},
		{"restart", 3, (*player).restart},
	}
}

func pick[T any](of []T, n int) T { return of[n%len(of)] }

func (p *player) repoOf(n int) string            { return pick(p.world.repos, n) }
func (p *player) blobOf(n int) worldBlob         { return pick(p.world.blobs, n) }
func (p *player) manifestOf(n int) worldManifest { return pick(p.manifests, n) }

// shownOf is mostly a manifest that repo has.
func (p *player) shownOf(repo string, n int) worldManifest {
	var shown []worldManifest
	if r := p.model.repos[repo]; r != nil {
		for _, m := range p.manifests {
			if _, ok := r.manifests[m.digest]; ok {
				shown = append(shown, m)
			}
		}
	}
	if len(shown) == 0 || n%8 == 0 {
		return p.manifestOf(n)
	}
	return pick(shown, n)
}

// linkedOf is mostly a blob that was put into repo.
func (p *player) linkedOf(repo string, n int) worldBlob {
	var linked []worldBlob
	if r := p.model.repos[repo]; r != nil {
		for _, b := range p.world.blobs {
			if _, ok := r.blobs[b.digest]; ok {
				linked = append(linked, b)
			}
		}
	}
	if len(linked) == 0 || n%8 == 0 {
		return p.blobOf(n)
	}
	return pick(linked, n)
}

func (p *player) tick(s step) error {
	d := pick([]time.Duration{time.Nanosecond, time.Second, 10 * time.Minute, time.Hour, 5 * time.Hour, 30 * time.Hour}, s.a)
	p.say("%s", d)
	p.now = p.clock.add(d)
	return nil
}

// pushAll pushes a manifest with all that it needs, as clients do: blobs, children, itself.
func (p *player) pushAll(s step) error {
	repo, m := p.repoOf(s.a), p.manifestOf(s.b)
	if err := p.pushParts(repo, m); err != nil {
		return err
	}
	return p.put(repo, m, p.someTags(s.c))
}

func (p *player) pushParts(repo string, m worldManifest) error {
	for _, d := range m.need {
		if p.visible(repo, d) {
			continue
		}
		if err := p.pushTo(repo, p.blob(d)); err != nil {
			return err
		}
	}
	for _, i := range m.parts {
		child := p.manifests[i]
		if err := p.pushParts(repo, child); err != nil {
			return err
		}
		if err := p.put(repo, child, nil); err != nil {
			return err
		}
	}
	return nil
}

func (p *player) blob(d digest.Digest) worldBlob {
	return p.world.blobs[slices.IndexFunc(p.world.blobs, func(b worldBlob) bool { return b.digest == d })]
}

func (p *player) someTags(n int) []string {
	if n%3 == 0 {
		return nil
	}
	return []string{pick(p.tags, n)}
}

func (p *player) pushBlob(s step) error { return p.pushTo(p.repoOf(s.a), p.blobOf(s.b)) }

func (p *player) pushTo(repo string, b worldBlob) error {
	p.say("%s to %s", b.name, repo)
	u, err := p.store.Uploads.New(p.ctx, repo)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(u, b.content); err != nil {
		return err
	}
	_, err = u.Commit(p.ctx, b.digest)
	p.hold(b.digest)
	p.link(repo, b.digest)
	p.await(repo, b.digest)
	return err
}

func (p *player) pushManifest(s step) error {
	m := p.manifestOf(s.b)
	mediaType := m.desc.MediaType
	if m.declared {
		mediaType = pick(m.mediaTypes(), s.d)
	}
	return p.putAs(p.repoOf(s.a), m, mediaType, p.someTags(s.c))
}

// put puts a manifest, with or without what it needs.
func (p *player) put(repo string, m worldManifest, tags []string) error {
	return p.putAs(repo, m, m.desc.MediaType, tags)
}

func (p *player) putAs(repo string, m worldManifest, mediaType string, tags []string) error {
	p.say("%s to %s as %v, %s", m.name, repo, tags, mediaType)
	lacks := slices.ContainsFunc(m.need, func(d digest.Digest) bool { return !p.visible(repo, d) })
	_, err := p.store.Manifests.Put(p.ctx, repo, m.body, PutOptions{MediaType: mediaType, Digest: m.digest, Tags: tags})
	if !lacks {
		p.show(repo, m.digest, mediaType, nil) // what it needs is visible, and to name it is no way to get at it
		p.repo(repo).pushed[m.digest] = true
		p.tagged(repo, m, tags)
	}
	return p.expect("put it", err, when(lacks, missing))
}

func (p *player) tagged(repo string, m worldManifest, tags []string) {
	for _, d := range slices.Compact(slices.Sorted(slices.Values(m.names))) {
		p.unawait(repo, d)
	}
	for _, tag := range tags {
		p.repo(repo).tags[tag] = m.digest
	}
}

// pushPulled puts a manifest before its layers, as pull-through does.
func (p *player) pushPulled(s step) error {
	repo, m, tags := p.repoOf(s.a), p.manifestOf(s.b), p.someTags(s.c)
	p.say("%s to %s as %v", m.name, repo, tags)
	mediaType := pick(m.mediaTypes(), s.d)
	if !m.declared {
		mediaType = ""
	}
	_, err := p.store.Manifests.PutPulled(p.ctx, repo, m.body, PutOptions{MediaType: mediaType, Digest: m.digest, Tags: tags})
	if p.repo(repo).pushed[m.digest] {
		mediaType = p.repo(repo).types[m.digest]
	}
	p.show(repo, m.digest, mediaType, nil)
	p.tagged(repo, m, tags)
	return err
}

func (p *player) mount(s step) error {
	repo, from, b := p.repoOf(s.a), pick(append([]string{""}, p.world.repos...), s.b), p.blobOf(s.c)
	p.say("%s to %s from %q", b.name, repo, from)
	can := p.has(b.digest) && (from == "" || p.visible(from, b.digest))
	_, err := p.store.Blobs.Mount(p.ctx, repo, from, b.digest)
	if can {
		p.link(repo, b.digest)
		p.await(repo, b.digest)
	}
	return p.expect("mount it", err, when(!can, absent))
}

// check asks for a blob as a client does before it pushes, or pulls it.
func (p *player) check(s step) error {
	repo, b := p.repoOf(s.a), p.blobOf(s.b)
	p.say("%s in %s", b.name, repo)
	visible := p.visible(repo, b.digest)
	if visible {
		p.checks[b.digest] = p.now
	}
	if s.c%2 == 0 {
		if visible {
			p.await(repo, b.digest)
		}
		_, err := p.store.Blobs.Stat(p.ctx, repo, b.digest)
		return p.expect("ask for it", err, when(!visible, absent))
	}
	opened, err := p.store.Blobs.Open(p.ctx, repo, b.digest)
	if err != nil {
		return p.expect("open it", err, when(!visible, absent))
	}
	defer opened.Close()
	content, err := io.ReadAll(opened)
	if err != nil || string(content) != b.content {
		return fmt.Errorf("reading %s gives %q, %v", b.name, content, err)
	}
	return p.expect("open it", nil, when(!visible, absent))
}

// moveTag moves a tag in the only way there is: by putting a manifest again.
func (p *player) moveTag(s step) error {
	repo := p.repoOf(s.a)
	return p.put(repo, p.shownOf(repo, s.b), []string{pick(p.tags, s.c)})
}

func (p *player) deleteTag(s step) error {
	repo, tag := p.repoOf(s.a), pick(p.tags, s.b)
	p.say("%s of %s", tag, repo)
	err := p.store.Tags.Delete(p.ctx, repo, tag)
	r := p.model.repos[repo]
	if r == nil || r.tags[tag] == "" {
		return p.expect("delete it", err, absent)
	}
	delete(r.tags, tag)
	return err
}

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

// planAtOnce asks what is garbage without a grace period: what was deleted, but for what a push may still need.
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
	path := blobPath(p.store, b.digest)
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(b.content), 0o600); err != nil {
		return err
	}
	p.strays[b.digest] = p.now
	return os.Chtimes(path, p.now, p.now)
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

// compareStale compares the uploads and the runs that nobody has touched since.
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
		if r != nil && !r.gone && !r.committed && r.seen.Before(runs) {
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
		if !r.gone && !r.committed && r.seen.Before(runs) {
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

func (p *player) beginUpload(s step) error {
	i := s.a % slots
	if p.model.uploads[i] != nil {
		return nil
	}
	repo, b := p.repoOf(s.b), p.blobOf(s.c)
	p.say("%d, %s to %s", i, b.name, repo)
	u, err := p.store.Uploads.New(p.ctx, repo)
	if err != nil {
		return err
	}
	p.uploads[i], p.ids[i] = u, u.ID()
	p.model.uploads[i] = &modelUpload{repo: repo, blob: b, open: true}
	return nil
}

// resume opens a session that is closed.
func (p *player) resume(i int) error {
	m := p.model.uploads[i]
	if m == nil || m.open {
		return nil
	}
	u, err := p.store.Uploads.Resume(p.ctx, m.repo, p.ids[i])
	if err != nil {
		return err
	}
	if u.Size() != int64(m.offset) {
		return fmt.Errorf("upload %d has %d bytes, not %d", i, u.Size(), m.offset)
	}
	p.uploads[i], m.open = u, true
	return nil
}

// pause closes a session that is open. Its files become as old as the clock says.
func (p *player) pause(i int) error {
	m := p.model.uploads[i]
	if m == nil || !m.open {
		return nil
	}
	m.open, m.touched = false, p.now
	if err := p.uploads[i].Close(); err != nil {
		return err
	}
	path := filepath.Join(p.store.files.Root(), "uploads", p.ids[i])
	for _, path := range []string{path, path + ".json"} {
		// A session that has received nothing has no files.
		if err := os.Chtimes(path, p.now, p.now); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (p *player) writeUpload(s step) error {
	i := s.a % slots
	m := p.model.uploads[i]
	if m == nil {
		return nil
	}
	if err := p.resume(i); err != nil {
		return err
	}
	n := min(len(m.blob.content)-m.offset, 1+len(m.blob.content)/2)
	p.say("%d, %d bytes", i, n)
	_, err := io.WriteString(p.uploads[i], m.blob.content[m.offset:m.offset+n])
	m.offset += n
	return err
}

func (p *player) pauseUpload(s step) error {
	p.say("%d", s.a%slots)
	return p.pause(s.a % slots)
}

// finishUpload commits what there is, be it half of it.
func (p *player) finishUpload(s step) error {
	i := s.a % slots
	m := p.model.uploads[i]
	if m == nil {
		return nil
	}
	if err := p.resume(i); err != nil {
		return err
	}
	p.say("%d", i)
	whole := m.offset == len(m.blob.content)
	_, err := p.uploads[i].Commit(p.ctx, m.blob.digest)
	if whole {
		p.hold(m.blob.digest)
		p.link(m.repo, m.blob.digest)
		p.await(m.repo, m.blob.digest)
	}
	p.model.uploads[i] = nil
	return p.expect("commit it", err, when(!whole, wrong))
}

func (p *player) cancelUpload(s step) error {
	i := s.a % slots
	if p.model.uploads[i] == nil {
		return nil
	}
	if err := p.resume(i); err != nil {
		return err
	}
	p.say("%d", i)
	p.model.uploads[i] = nil
	return p.uploads[i].Cancel(p.ctx)
}

// beginRun begins one where there is none, or where the last has ended.
func (p *player) beginRun(s step) (err error) {
	i := s.a % slots
	if r := p.model.runs[i]; r != nil && !r.gone && !r.committed {
		return nil
	}
	p.say("%d", i)
	p.model.runs[i] = &modelRun{blobs: map[place]bool{}, manifests: map[place]string{}, tags: map[place]digest.Digest{}, seen: p.now}
	p.runs[i], err = p.store.Runs.Begin(p.ctx, "history")
	return err
}

// during calls f with the run of a step, and expects what it says, unless the run has ended.
func (p *player) during(s step, what string, f func(run *Run, m *modelRun) (want string, err error)) error {
	i := s.d % slots
	m := p.model.runs[i]
	if m == nil {
		return nil
	}
	p.say("%d %s", i, what)
	gone, committed := m.gone, m.committed // before it is aborted
	want, err := f(p.runs[i], m)
	switch {
	case gone:
		want = absent
	case committed:
		want = invalid
	case want == done:
		m.seen = p.now
	}
	return p.expect(what, err, want)
}

// live says whether a call can change the run.
func (m *modelRun) live() bool { return !m.gone && !m.committed }

func (p *player) runBlob(s step) error {
	repo, b := p.repoOf(s.a), p.blobOf(s.b)
	if s.c%5 == 0 {
		return p.runWrongBlob(s, repo, b)
	}
	return p.runPut(s, repo, b)
}

func (p *player) runPut(s step, repo string, b worldBlob) error {
	return p.during(s, fmt.Sprintf("put %s to %s", b.name, repo), func(run *Run, m *modelRun) (string, error) {
		err := run.PutBlob(p.ctx, repo, b.desc("x/y"), strings.NewReader(b.content))
		if m.live() {
			p.hold(b.digest)
			m.blobs[place{repo, b.digest.String()}] = true
		}
		return done, err
	})
}

// runWrongBlob puts bytes that are not those of the descriptor.
func (p *player) runWrongBlob(s step, repo string, b worldBlob) error {
	return p.during(s, fmt.Sprintf("put damaged %s to %s", b.name, repo), func(run *Run, m *modelRun) (string, error) {
		if m.live() {
			m.seen = p.now // that it was tried shows that somebody is there
		}
		return wrong, run.PutBlob(p.ctx, repo, b.desc("x/y"), strings.NewReader("B"+b.content[1:]))
	})
}

// runPush stages a manifest, mostly with what it needs.
func (p *player) runPush(s step) error {
	repo, m := p.repoOf(s.a), p.manifestOf(s.b)
	if s.c%6 != 0 {
		to := repo
		if s.c%6 == 1 { // what the run has for one repository is no other's
			to = p.repoOf(s.c)
		}
		for _, d := range m.need {
			if err := p.runPut(s, to, p.blob(d)); err != nil {
				return err
			}
		}
	}
	return p.during(s, fmt.Sprintf("put %s to %s", m.name, repo), func(run *Run, r *modelRun) (string, error) {
		can := p.mayHaveAll(r, repo, m.need)
		if can && r.live() {
			r.manifests[place{repo, m.digest.String()}] = m.desc.MediaType
		}
		return when(!can, missing), run.PutManifest(p.ctx, repo, m.desc, m.body)
	})
}

// runHas asks a run for a blob or a manifest, which makes it part of the run.
func (p *player) runHas(s step) error {
	repo, b, m := p.repoOf(s.a), p.blobOf(s.b), p.manifestOf(s.b)
	if s.c%2 == 0 {
		return p.during(s, fmt.Sprintf("has %s in %s", b.name, repo), func(run *Run, r *modelRun) (string, error) {
			want := p.mayHaveAll(r, repo, []digest.Digest{b.digest})
			held, _, unconfirmed, err := run.Held(p.ctx, map[string][]digest.Digest{repo: {b.digest}}, nil)
			if r.live() && want {
				r.blobs[place{repo, b.digest.String()}] = true
			}
			if err == nil && r.live() && (len(unconfirmed[repo]) == 1) != (p.has(b.digest) && !want) {
				err = fmt.Errorf("unconfirmed are %v", unconfirmed)
			}
			return done, p.same(r, len(held[repo]) == 1, want, err)
		})
	}
	if s.c%4 == 1 {
		return p.during(s, fmt.Sprintf("confirm %s for %s", b.name, repo), func(run *Run, r *modelRun) (string, error) {
			staged, err := run.Confirm(p.ctx, map[string][]ocispec.Descriptor{repo: {b.desc("x/y")}})
			if r.live() && p.has(b.digest) {
				r.blobs[place{repo, b.digest.String()}] = true
			}
			return done, p.same(r, len(staged[repo]) == 1, p.has(b.digest), err)
		})
	}
	return p.during(s, fmt.Sprintf("has %s in %s", m.name, repo), func(run *Run, r *modelRun) (string, error) {
		at := place{repo, m.digest.String()}
		mediaType, staged := r.manifests[at]
		here := p.model.repos[repo]
		shown := here != nil && !here.manifests[m.digest].IsZero()
		want := (shown || staged) && p.mayHaveAll(r, repo, m.need)
		if shown && !staged {
			mediaType = here.types[m.digest]
		}
		got, err := hasManifest(p.ctx, run, repo, m.digest)
		if r.live() && want {
			r.manifests[at] = mediaType
		}
		return done, p.same(r, got, want, err)
	})
}

// mayHaveAll reports whether a repository shows all of some blobs, or the run has them for it.
func (p *player) mayHaveAll(r *modelRun, repo string, ds []digest.Digest) bool {
	return !slices.ContainsFunc(ds, func(d digest.Digest) bool { return !r.blobs[place{repo, d.String()}] && !p.visible(repo, d) })
}

func (p *player) same(r *modelRun, got, want bool, err error) error {
	if err == nil && r.live() && got != want {
		return fmt.Errorf("it is %t, not %t", got, want)
	}
	return err
}

func (p *player) runTag(s step) error {
	repo, tag := p.repoOf(s.a), pick(p.tags, s.c)
	m := p.shownOf(repo, s.b)
	if r := p.model.runs[s.d%slots]; r != nil && s.b%2 == 0 { // one of its own
		for _, own := range p.manifests {
			if _, staged := r.manifests[place{repo, own.digest.String()}]; staged {
				m = own
			}
		}
	}
	return p.during(s, fmt.Sprintf("tag %s of %s as %s", m.name, repo, tag), func(run *Run, r *modelRun) (string, error) {
		_, can := r.manifests[place{repo, m.digest.String()}]
		if there := p.model.repos[repo]; there != nil && !there.manifests[m.digest].IsZero() {
			can = true
		}
		if can && r.live() {
			r.tags[place{repo, tag}] = m.digest
		}
		return when(!can, absent), run.Tag(p.ctx, tagged(repo, tag, m.digest))
	})
}

func (p *player) runCommit(s step) error {
	i := s.d % slots
	m := p.model.runs[i]
	if m == nil {
		return nil
	}
	p.say("%d", i)
	err := p.runs[i].Commit(p.ctx)
	switch {
	case m.gone:
		return p.expect("commit it", err, absent)
	case m.committed || m.live() && p.commit(m):
		return p.expect("commit it", err, done)
	}
	return p.expect("commit it", err, absent)
}

// runHalfway leaves what a commit leaves that is killed before anything is shown.
func (p *player) runHalfway(s step) error {
	i := s.d % slots
	m := p.model.runs[i]
	if m == nil || !m.live() {
		return nil
	}
	p.say("%d", i)
	return p.expect("prepare it", p.runs[i].prepare(p.ctx), when(!p.prepare(m), absent))
}

// prepare links the blobs of a run, unless a manifest that it tags is gone.
func (p *player) prepare(m *modelRun) bool {
	for to, d := range m.tags {
		r := p.model.repos[to.repo]
		shown := r != nil && !r.manifests[d].IsZero()
		if _, staged := m.manifests[place{to.repo, d.String()}]; !shown && !staged {
			return false
		}
	}
	for b := range m.blobs {
		p.linkOnce(b.repo, digest.Digest(b.name))
	}
	for staged := range m.manifests {
		p.repo(staged.repo)
		for _, d := range p.manifest(digest.Digest(staged.name)).need {
			if p.has(d) {
				p.linkOnce(staged.repo, d)
			}
		}
	}
	return true
}

// commit shows what a run has staged, all of it or, when a manifest that it tags is gone, nothing.
func (p *player) commit(m *modelRun) bool {
	if !p.prepare(m) {
		return false
	}
	for staged, mediaType := range m.manifests {
		d := digest.Digest(staged.name)
		p.show(staged.repo, d, mediaType, p.manifest(d).need)
		p.repo(staged.repo).pushed[d] = true
	}
	for to, d := range m.tags {
		p.repo(to.repo).pushed[d] = true
		p.repo(to.repo).tags[to.name] = d
	}
	*m = modelRun{committed: true}
	return true
}

func (p *player) runAbort(s step) error {
	return p.during(s, "abort", func(run *Run, m *modelRun) (string, error) {
		if m.live() {
			defer func() { *m = modelRun{gone: true, seen: p.now} }()
		}
		return done, run.Abort(p.ctx)
	})
}

// restart closes the store and opens it again. Uploads and runs are taken up where they were.
func (p *player) restart(step) error {
	if err := p.close(); err != nil {
		return err
	}
	p.reopened()
	if err := p.open(); err != nil {
		return err
	}
	for i, m := range p.model.runs {
		if m == nil {
			continue
		}
		if m.gone {
			p.runs[i] = &Run{store: p.store.core, id: p.runs[i].ID()}
			continue
		}
		run, err := p.store.Runs.Get(p.ctx, p.runs[i].ID())
		if err != nil {
			return err
		}
		p.runs[i] = run
	}
	return nil
}
