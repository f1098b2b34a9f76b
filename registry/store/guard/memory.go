package guard

import (
	"maps"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	// ChecksKept is how long a check of a blob is remembered. A client that asks for a blob before it pushes
	// a manifest pushes it within the hour; a collection with a longer grace period than this goes by the
	// times in the rows alone.
	ChecksKept = 24 * time.Hour

	// PushTakes is how long a blob that a client has put or checked is spared, whatever the grace period, until the client
	// has put its manifest. A push seldom takes longer from its first layer to its manifest; its client is told what is
	// missing then, and pushes that again. A restart forgets it, with the same outcome.
	PushTakes = 10 * time.Minute

	// fewEntries is the size from which a map is searched for entries that are too old.
	fewEntries = 1024
)

// marks are the digests and links that collection removes.
type marks struct {
	digests map[digest.Digest]chan struct{} // closed when the mark is removed
	links   map[Link]bool
	epoch   uint64 // counts the changes
}

func newMarks() marks {
	return marks{digests: map[digest.Digest]chan struct{}{}, links: map[Link]bool{}}
}

func (m *marks) has(l Link) bool {
	_, marked := m.digests[l.Digest]
	return marked || m.links[l]
}

// add marks a digest and reports whether it was not marked yet.
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

func newChecks() checks { return checks{at: map[digest.Digest]time.Time{}, sweepAt: fewEntries} }

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

// expected are the manifests that clients are about to put, by a blob that they need and by repository.
type expected struct {
	manifests map[digest.Digest]map[string]expectation
	sweepAt   int
}

type expectation struct {
	last  time.Time
	count int // each push, mount or check by a client is for one manifest
}

func newExpected() expected {
	return expected{manifests: map[digest.Digest]map[string]expectation{}, sweepAt: fewEntries}
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
