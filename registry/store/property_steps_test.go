package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
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
	p.turn()
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
	p.turn()
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
	p.uploads[i], m.open, m.begun = u, true, false
	m.touched = p.now
	return nil
}

// pause closes a session that is open. Its files become as old as the clock says, or older where a row
// has it as well.
func (p *player) pause(i int) error {
	m := p.model.uploads[i]
	if m == nil || !m.open {
		return nil
	}
	m.open = false
	if !p.several || m.offset == 0 {
		m.touched = p.now
	}
	if err := p.uploads[i].Close(); err != nil {
		return err
	}
	at := p.now
	if p.several {
		at = time.Unix(0, 0)
	}
	path := filepath.Join(p.root, "uploads", p.ids[i])
	for _, path := range []string{path, path + ".json", path + ".state"} {
		// A session that has received nothing has no files.
		if err := os.Chtimes(path, at, at); err != nil && !errors.Is(err, os.ErrNotExist) {
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
	if n > 0 && !m.begun {
		m.begun, m.touched = true, p.now
	}
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

// restart closes a store and opens it again. Uploads and runs are taken up where they were.
func (p *player) restart(step) error {
	i := slices.Index(p.stores, p.store)
	if err := p.close(p.store); err != nil {
		return err
	}
	p.reopened()
	opened, err := p.open()
	if err != nil {
		p.stores = slices.Delete(p.stores, i, i+1)
		return err
	}
	p.stores[i], p.store = opened, opened
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
