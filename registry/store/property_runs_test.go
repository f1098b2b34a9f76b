package store

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

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
	p.runs[i] = &Run{store: p.store.core, id: p.runs[i].ID()} // whichever store began it
	gone, committed := m.gone, m.committed                    // before it is aborted
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

// live reports whether a call can change the run.
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
			m.seen = p.now // an attempt counts as a use
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
			held, _, unconfirmed, err := run.Existing(p.ctx, map[string][]digest.Digest{repo: {b.digest}}, nil)
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
	p.runs[i] = &Run{store: p.store.core, id: p.runs[i].ID()}
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
	p.runs[i] = &Run{store: p.store.core, id: p.runs[i].ID()}
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
