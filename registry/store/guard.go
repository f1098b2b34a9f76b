package store

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// checksKept is how long a check of a blob is remembered. A client that asks for a blob before it pushes
// a manifest pushes it within the hour; a collection with a longer grace period than this goes by the
// times in the rows alone.
const checksKept = 24 * time.Hour

// pushTakes is for how long what a client put or asked for is left to it, whatever the grace period, until a
// manifest of its is made of it. Longer than that a push takes from its first layer to its manifest seldom; it
// is told what is missing then, and pushes that again. A restart forgets it, with the same outcome.
const pushTakes = 10 * time.Minute

// heardKept is how many runs are known to be alive without their row.
const heardKept = 256

// guard keeps collection and everybody else from each other where the database cannot: between a row and
// its file, and for reads, which leave no row. It is held for moments only, never over I/O.
//
// A digest is condemned from before its row is deleted until after its file is; it is not held for anybody
// who asks, and nobody may place its file meanwhile. A digest is in flight from before its file is placed
// until after its row is committed, in whichever order; it cannot be condemned meanwhile.
//
// Where both are needed, the write transaction comes first, then mu. Whoever waits for a condemned digest
// has neither.
type guard struct {
	now func() time.Time

	mu        sync.Mutex
	condemned map[digest.Digest]chan struct{} // closed when collection has finished with it
	unlinking map[link]bool                   // links that are being removed, see RemoveLinks
	inFlight  map[digest.Digest]int
	checked   map[digest.Digest]time.Time
	sweepAt   int                                  // size of checked at which old checks are dropped
	awaited   map[digest.Digest]map[string]promise // by repository: put or asked for there for a manifest to come
	tidyAt    int                                  // size of awaited at which what is over is dropped
	epoch     uint64                               // counts the changes of condemned
	sessions  map[string]chan struct{}             // upload ids in use, closed on release
	runs      map[string]int                       // runs with a blob under way, or being committed
	commits   map[string]chan struct{}             // runs that are being committed, closed at the end
	heard     map[string]time.Time                 // when runs were last heard of, if that is not in their row
	copying   int                                  // backups under way, see holdFiles
}

func newGuard(now func() time.Time) *guard {
	return &guard{
		now:       now,
		condemned: map[digest.Digest]chan struct{}{},
		unlinking: map[link]bool{},
		inFlight:  map[digest.Digest]int{},
		checked:   map[digest.Digest]time.Time{},
		sweepAt:   1024,
		awaited:   map[digest.Digest]map[string]promise{},
		tidyAt:    1024,
		sessions:  map[string]chan struct{}{},
		runs:      map[string]int{},
		commits:   map[string]chan struct{}{},
		heard:     map[string]time.Time{},
	}
}

func (g *guard) currentEpoch() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.epoch
}

// check records that a client was told that a blob is held, in the repository awaited that a manifest may now be put into,
// or "" when none is to be expected. It refuses when collection is taking the blob or its link, and when it took or spared
// anything since the caller read the row: read is what currentEpoch said before that.
func (g *guard) check(l link, awaited string, read uint64) (gone, again bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := l.digest
	if _, gone = g.condemned[d]; gone || g.unlinking[l] {
		return true, false
	}
	if g.epoch != read {
		return false, true
	}
	if awaited != "" {
		g.awaitLocked(awaited, d)
	}
	g.record(d)
	return false, false
}

// record is called with mu held.
func (g *guard) record(d digest.Digest) {
	now := g.now()
	g.checked[d] = now
	if len(g.checked) < g.sweepAt {
		return
	}
	for d, t := range g.checked {
		if now.Sub(t) > checksKept {
			delete(g.checked, d)
		}
	}
	g.sweepAt = max(1024, 2*len(g.checked))
}

// promise is what clients were told of a blob in a repository: that a manifest which needs it may be put there now.
type promise struct {
	last      time.Time
	manifests int // that may come: each push, mount or check by a client is for one
}

// again is p after a client was told once more.
func (p promise) again(now time.Time) promise {
	if now.Sub(p.last) >= pushTakes {
		p.manifests = 0 // none of them comes any more
	}
	return promise{last: now, manifests: p.manifests + 1}
}

// await notes that a client has put d into a repository, and that a manifest is to come.
func (g *guard) await(repo string, d digest.Digest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.awaitLocked(repo, d)
}

func (g *guard) awaitLocked(repo string, d digest.Digest) {
	if g.awaited[d] == nil {
		g.awaited[d] = map[string]promise{}
	}
	g.awaited[d][repo] = g.awaited[d][repo].again(g.now())
	if len(g.awaited) < g.tidyAt {
		return
	}
	maps.DeleteFunc(g.awaited, func(d digest.Digest, _ map[string]promise) bool { return !g.awaitedLocked(d) })
	g.tidyAt = max(1024, 2*len(g.awaited))
}

// awaitedLocked says whether a manifest may still come that needs d.
func (g *guard) awaitedLocked(d digest.Digest) bool {
	now := g.now()
	for _, p := range g.awaited[d] {
		if now.Sub(p.last) < pushTakes {
			return true
		}
	}
	return false
}

// unawait notes that what was put into a repository or asked for there, until a time, has its manifest, or that
// its client gave it up. What came since then is for another.
func (g *guard) unawait(repo string, until time.Time, ds ...digest.Digest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	seen := map[digest.Digest]bool{}
	for _, d := range ds {
		p, ok := g.awaited[d][repo]
		if !ok || p.last.After(until) || seen[d] {
			continue
		}
		seen[d] = true
		if p.manifests--; p.manifests > 0 {
			g.awaited[d][repo] = p
			continue
		}
		delete(g.awaited[d], repo)
		if len(g.awaited[d]) == 0 {
			delete(g.awaited, d)
		}
	}
}

// takeChecks gives the checks that are remembered, and forgets them.
func (g *guard) takeChecks() map[digest.Digest]time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	checks := g.checked
	g.checked = map[digest.Digest]time.Time{}
	return checks
}

// enter waits until collection has finished with d, then keeps it away until leave.
func (g *guard) enter(ctx context.Context, d digest.Digest) error {
	for {
		g.mu.Lock()
		finished, condemned := g.condemned[d]
		if !condemned {
			g.inFlight[d]++
			g.mu.Unlock()
			return nil
		}
		g.mu.Unlock()
		select {
		case <-finished:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (g *guard) leave(d digest.Digest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inFlight[d]--; g.inFlight[d] == 0 {
		delete(g.inFlight, d)
	}
}

// isInFlight reports whether d is being put.
func (g *guard) isInFlight(d digest.Digest) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inFlight[d] > 0
}

// spared says whether d was checked after before, is being written, or is part of a push under way.
func (g *guard) spared(d digest.Digest, before time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sparedLocked(d, before)
}

func (g *guard) sparedLocked(d digest.Digest, before time.Time) bool {
	checked, ever := g.checked[d]
	return g.inFlight[d] > 0 || ever && !checked.Before(before) || g.awaitedLocked(d)
}

// condemn takes d, unless something spares it. It is called in the transaction that deletes the row, once
// that has seen that d is garbage: condemned any earlier, a blob would be denied to those who pull it
// while it is only suspected. The caller acquits what it has condemned when it is done.
func (g *guard) condemn(d digest.Digest, before time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, already := g.condemned[d]; already || g.sparedLocked(d, before) {
		return false
	}
	g.condemned[d] = make(chan struct{})
	g.epoch++
	// Old ones, or it would not be condemned.
	delete(g.checked, d)
	delete(g.awaited, d)
	return true
}

// condemnOwn takes a digest that the caller, and nobody else, has in flight. The caller acquits it.
func (g *guard) condemnOwn(d digest.Digest) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, already := g.condemned[d]; already || g.inFlight[d] != 1 {
		return false
	}
	g.condemned[d] = make(chan struct{})
	g.epoch++
	return true
}

// acquit ends the condemnation of digests, whether or not they were removed.
func (g *guard) acquit(ds []digest.Digest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, d := range ds {
		close(g.condemned[d])
		delete(g.condemned, d)
	}
	g.epoch++
}

// take gives the caller an upload session, waiting up to patience for the request that has it: a client
// sends the next chunk as soon as it has read the answer to the last, while that request is still closing.
func (g *guard) take(ctx context.Context, id string, patience time.Duration) error {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		g.mu.Lock()
		released, busy := g.sessions[id]
		if !busy {
			g.sessions[id] = make(chan struct{})
			g.mu.Unlock()
			return nil
		}
		g.mu.Unlock()
		select {
		case <-released:
		case <-timeout.C:
			return &BusyError{ID: id}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tryTake is take without patience.
func (g *guard) tryTake(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, busy := g.sessions[id]; busy {
		return false
	}
	g.sessions[id] = make(chan struct{})
	return true
}

func (g *guard) inUse(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, busy := g.sessions[id]
	return busy
}

func (g *guard) release(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.sessions[id])
	delete(g.sessions, id)
}

func (g *guard) enterRun(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.runs[id]++
}

// enterCommit waits until nothing else commits a run, and has it left alone until leaveCommit.
func (g *guard) enterCommit(ctx context.Context, id string) error {
	for {
		g.mu.Lock()
		ended, busy := g.commits[id]
		if !busy {
			g.commits[id] = make(chan struct{})
			g.runs[id]++
			g.mu.Unlock()
			return nil
		}
		g.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (g *guard) leaveCommit(id string) {
	g.mu.Lock()
	close(g.commits[id])
	delete(g.commits, id)
	g.mu.Unlock()
	g.leaveRun(id)
}

func (g *guard) isCommitting(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, is := g.commits[id]
	return is
}

func (g *guard) leaveRun(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.runs[id]--; g.runs[id] == 0 {
		delete(g.runs, id)
	}
}

// heardOf notes that a run is alive.
func (g *guard) heardOf(id string, t time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.heard) >= heardKept {
		clear(g.heard) // their rows are behind by less than runSeen
	}
	g.heard[id] = t
}

// takeHeard gives when runs were heard of, and forgets it.
func (g *guard) takeHeard() map[string]time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	heard := g.heard
	g.heard = map[string]time.Time{}
	return heard
}

// runActive says whether a run has a blob under way, or was heard of since before.
func (g *guard) runActive(id string, before time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	heard, ever := g.heard[id]
	return g.runs[id] > 0 || ever && !heard.Before(before)
}
