package guard

import (
	"context"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// Blobs keeps collection and requests from each other.
//
// A digest is marked from before its row is deleted until after its file is; requests do not find it, and no upload places
// its file meanwhile. A digest is in flight from before its file is placed until after its row is committed, in whichever
// order; it cannot be marked meanwhile.
type Blobs struct {
	now func() time.Time

	mu       sync.Mutex // guards what follows
	marks    marks
	inFlight map[digest.Digest]int
	checks   checks
	expected expected
}

// newBlobs returns a guard of blobs that has the time from now.
func newBlobs(now func() time.Time) *Blobs {
	return &Blobs{now: now, marks: newMarks(), inFlight: map[digest.Digest]int{}, checks: newChecks(), expected: newExpected()}
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

// Check records that a client was told that a blob exists, in the repository that a manifest is now expected in, or "" when
// none is. gone is true while collection removes the blob or its link. again is true when marks have changed since the
// caller read the row: epoch is what Epoch returned before that.
func (b *Blobs) Check(l Link, expect string, epoch uint64) (gone, again bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.marks.has(l) {
		return true, false
	}
	if b.marks.epoch != epoch {
		return false, true
	}
	now := b.now()
	if expect != "" {
		b.expected.add(expect, l.Digest, now)
	}
	b.checks.record(l.Digest, now)
	return false, false
}

// TakeChecks returns the checks that are remembered, and forgets them.
func (b *Blobs) TakeChecks() map[digest.Digest]time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.checks.take()
}

// Expect records that a client has put a blob into a repository, so that a manifest is expected there.
func (b *Blobs) Expect(repo string, d digest.Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected.add(repo, d, b.now())
}

// Unexpect records that blobs which were put into a repository or checked there, until a time, have their manifest, or that
// its client gave it up. What came since then is for another manifest.
func (b *Blobs) Unexpect(repo string, until time.Time, ds ...digest.Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected.remove(repo, until, ds)
}

// Enter waits until collection has finished with a blob, then keeps it away until Leave.
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

// Spared reports whether a blob was checked since before, is being put, or is part of a push under way.
func (b *Blobs) Spared(d digest.Digest, before time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.spared(d, before)
}

func (b *Blobs) spared(d digest.Digest, before time.Time) bool {
	return b.inFlight[d] > 0 || b.checks.since(d, before) || b.expected.has(d, b.now())
}

// Mark marks a blob unless it is spared. It is called in the transaction that deletes the row, once that has seen that the
// blob is garbage: marked any earlier, a blob would be denied to clients while it is only suspected. The caller unmarks it
// in the end.
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

// MarkNow marks a blob although clients were told that it exists: it is damaged, or was placed and could not be synced. It
// refuses while others put the blob, besides the mine puts of the caller. The caller unmarks it.
func (b *Blobs) MarkNow(d digest.Digest, mine int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.inFlight[d] == mine && b.marks.add(d)
}

// Unmark removes the marks of blobs, whether or not these were removed.
func (b *Blobs) Unmark(ds ...digest.Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.marks.remove(ds)
}

// MarkLink marks a link unless its blob is spared, so that no client is told that it exists until it is gone. It is called
// in the transaction that removes the link. The caller unmarks it.
func (b *Blobs) MarkLink(l Link, before time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.spared(l.Digest, before) {
		return false
	}
	b.marks.links[l] = true
	b.marks.epoch++
	return true
}

// UnmarkLinks removes the marks of links.
func (b *Blobs) UnmarkLinks(ls []Link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range ls {
		delete(b.marks.links, l)
	}
	b.marks.epoch++
}
