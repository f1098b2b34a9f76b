package guard

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// Blobs keeps collection and requests apart.
//
// A digest is marked from before its row is deleted until after its file is; requests do not find
// it, and no upload places its file meanwhile. A digest is in flight from before its file is placed
// until after its row is committed, in either order; it cannot be marked meanwhile.
type Blobs struct {
	now func() time.Time

	mu       sync.Mutex // guards what follows
	marks    marks
	inFlight map[digest.Digest]int
	checks   checks
	expected expected
}

func newBlobs(now func() time.Time) *Blobs {
	return &Blobs{
		now: now, inFlight: map[digest.Digest]int{},
		marks:    marks{digests: map[digest.Digest]chan struct{}{}, links: map[Link]chan struct{}{}},
		checks:   checks{at: map[digest.Digest]time.Time{}, sweepAt: fewEntries},
		expected: expected{manifests: map[digest.Digest]map[string]expectation{}, sweepAt: fewEntries},
	}
}

// Link is a blob of a repository.
type Link struct {
	Repository string
	Digest     digest.Digest
}

// Epoch returns a number that changes with each mark that is set or removed.
func (b *Blobs) Epoch() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.marks.epoch
}

// Check records that a client was told that a blob exists, and, unless expect is "", that a
// manifest is expected in that repository. gone is true while collection removes the blob. again is
// true when marks have changed since epoch, which the caller got before it read the row. Check waits
// until collection has removed the link: by then another may have linked the blob again, so that
// the caller has to read the row once more. It returns an error when ctx ends first.
func (b *Blobs) Check(ctx context.Context, l Link, expect string, epoch uint64) (gone, again bool, err error) {
	gone, again, removed := b.check(l, expect, epoch)
	if removed == nil {
		return gone, again, nil
	}
	select {
	case <-removed:
		return false, true, nil
	case <-ctx.Done():
		return false, false, ctx.Err()
	}
}

// check is Check without the wait; removed is closed when the link is removed.
func (b *Blobs) check(l Link, expect string, epoch uint64) (gone, again bool, removed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, marked := b.marks.digests[l.Digest]; marked {
		return true, false, nil
	}
	if removed, marked := b.marks.links[l]; marked {
		return false, false, removed
	}
	if b.marks.epoch != epoch {
		return false, true, nil
	}
	now := b.now()
	if expect != "" {
		b.expected.add(expect, l.Digest, now)
	}
	b.checks.record(l.Digest, now)
	return false, false, nil
}

// TakeChecks returns the recorded checks, and forgets them.
func (b *Blobs) TakeChecks() map[digest.Digest]time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.checks.take()
}

// Expect records that a client has put a blob into a repository, so that a manifest is expected
// there.
func (b *Blobs) Expect(repo string, d digest.Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected.add(repo, d, b.now())
}

// Unexpect records that blobs which were put or checked in a repository until a time have their
// manifest, or that the client gave it up. Later ones are for another manifest.
func (b *Blobs) Unexpect(repo string, until time.Time, ds ...digest.Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected.remove(repo, until, ds)
}

// Recall records what clients were told before this process had the blobs: when blobs were checked, and
// when a manifest was last expected with a blob in a repository.
func (b *Blobs) Recall(checked map[digest.Digest]time.Time, expected map[Link]time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for d, at := range checked {
		if !b.checks.since(d, at) {
			b.checks.record(d, at)
		}
	}
	for l, last := range expected {
		if b.expected.manifests[l.Digest][l.Repository].last.Before(last) {
			b.expected.add(l.Repository, l.Digest, last)
		}
	}
}

// Enter waits until collection has finished with a blob, then excludes it until Leave.
func (b *Blobs) Enter(ctx context.Context, d digest.Digest) error {
	for {
		b.mu.Lock()
		finished, marked := b.marks.digests[d]
		if !marked {
			b.inFlight[d]++
		}
		b.mu.Unlock()
		if !marked {
			return nil
		}
		select {
		case <-finished:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Leave ends Enter.
func (b *Blobs) Leave(d digest.Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.inFlight[d]--; b.inFlight[d] == 0 {
		delete(b.inFlight, d)
	}
}

// InFlight reports whether a blob is being put.
func (b *Blobs) InFlight(d digest.Digest) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.inFlight[d] > 0
}

// Spared reports whether a blob was checked since before, is being put, or is part
// of a push under way.
func (b *Blobs) Spared(d digest.Digest, before time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.spared(d, before)
}

func (b *Blobs) spared(d digest.Digest, before time.Time) bool {
	return b.inFlight[d] > 0 || b.checks.since(d, before) || b.expected.has(d, b.now())
}

// Mark marks a blob unless it is spared. The transaction that deletes the row calls it, once the
// blob is known to be garbage: marked any earlier, a blob in use would be denied to clients. The
// caller unmarks it.
func (b *Blobs) Mark(d digest.Digest, before time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.spared(d, before) || !b.marks.add(d) {
		return false
	}
	// What is left of these is old, or the blob would be spared.
	delete(b.checks.at, d)
	delete(b.expected.manifests, d)
	return true
}

// MarkNow marks a blob although clients were told that it exists: it is damaged, or could not be
// synced. It refuses while others put the blob, besides the mine puts of the caller. The caller
// unmarks it.
func (b *Blobs) MarkNow(d digest.Digest, mine int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.inFlight[d] == mine && b.marks.add(d)
}

// Unmark removes the marks of blobs.
func (b *Blobs) Unmark(ds ...digest.Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.marks.remove(ds)
}

// MarkLink marks a link unless its blob is spared or it is marked, so that no client is told that it
// exists until it is deleted. The transaction that deletes it calls this. The caller unmarks it.
func (b *Blobs) MarkLink(l Link, before time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, marked := b.marks.links[l]; marked || b.spared(l.Digest, before) {
		return false
	}
	b.marks.links[l] = make(chan struct{})
	b.marks.epoch++
	return true
}

// UnmarkLinks removes the marks of links.
func (b *Blobs) UnmarkLinks(ls []Link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range ls {
		close(b.marks.links[l])
		delete(b.marks.links, l)
	}
	b.marks.epoch++
}

const (
	// ChecksKept is how long a check of a blob is recorded. A client that checks a blob before a
	// push puts the manifest within the hour; a collection with a longer grace period uses the
	// times in the rows.
	ChecksKept = 24 * time.Hour

	// PushTakes is how long a blob that a client has put or checked is spared, whatever the grace
	// period, until the client has put its manifest. A push seldom takes longer from its first
	// layer to its manifest; after that, as after a restart, its client is told which blobs are
	// missing, and pushes them again.
	PushTakes = 10 * time.Minute

	// fewEntries is the size at which a map is first searched for old entries.
	fewEntries = 1024
)

// marks are the digests and links that collection is removing.
type marks struct {
	digests map[digest.Digest]chan struct{} // closed when the mark is removed
	links   map[Link]chan struct{}          // likewise
	epoch   uint64                          // counts the changes
}

// add marks a digest and reports whether it was not marked.
func (m *marks) add(d digest.Digest) bool {
	if _, marked := m.digests[d]; marked {
		return false
	}
	m.digests[d] = make(chan struct{})
	m.epoch++
	return true
}

func (m *marks) remove(ds []digest.Digest) {
	for _, d := range ds {
		close(m.digests[d])
		delete(m.digests, d)
	}
	m.epoch++
}

// checks are the times at which clients were told that a blob exists.
type checks struct {
	at      map[digest.Digest]time.Time
	sweepAt int // the size at which old checks are dropped
}

func (c *checks) record(d digest.Digest, now time.Time) {
	c.at[d] = now
	if len(c.at) < c.sweepAt {
		return
	}
	maps.DeleteFunc(c.at, func(_ digest.Digest, t time.Time) bool { return now.Sub(t) > ChecksKept })
	c.sweepAt = max(fewEntries, 2*len(c.at))
}

func (c *checks) since(d digest.Digest, before time.Time) bool {
	t, ever := c.at[d]
	return ever && !t.Before(before)
}

func (c *checks) take() map[digest.Digest]time.Time {
	at := c.at
	c.at = map[digest.Digest]time.Time{}
	return at
}

// expected are the manifests that clients are about to put, by blob and repository.
type expected struct {
	manifests map[digest.Digest]map[string]expectation
	sweepAt   int
}

type expectation struct {
	last  time.Time
	count int // each push, mount or check by a client is for one manifest
}

func (e *expected) add(repo string, d digest.Digest, now time.Time) {
	if e.manifests[d] == nil {
		e.manifests[d] = map[string]expectation{}
	}
	one := e.manifests[d][repo]
	if now.Sub(one.last) >= PushTakes {
		one.count = 0 // those will not come any more
	}
	e.manifests[d][repo] = expectation{last: now, count: one.count + 1}
	if len(e.manifests) < e.sweepAt {
		return
	}
	maps.DeleteFunc(e.manifests, func(d digest.Digest, _ map[string]expectation) bool { return !e.has(d, now) })
	e.sweepAt = max(fewEntries, 2*len(e.manifests))
}

// has reports whether a manifest may still come that needs a blob.
func (e *expected) has(d digest.Digest, now time.Time) bool {
	for _, one := range e.manifests[d] {
		if now.Sub(one.last) < PushTakes {
			return true
		}
	}
	return false
}

func (e *expected) remove(repo string, until time.Time, ds []digest.Digest) {
	seen := map[digest.Digest]bool{}
	for _, d := range ds {
		one, ok := e.manifests[d][repo]
		if !ok || one.last.After(until) || seen[d] {
			continue
		}
		seen[d] = true
		if one.count--; one.count > 0 {
			e.manifests[d][repo] = one
			continue
		}
		delete(e.manifests[d], repo)
		if len(e.manifests[d]) == 0 {
			delete(e.manifests, d)
		}
	}
}
