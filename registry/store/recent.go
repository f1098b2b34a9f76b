package store

import "sync"

const (
	// recentBytes is how much of manifests is kept in memory: those of a release payload, several times over.
	recentBytes = 8 << 20
	// recentLargest keeps a few huge manifests from being all that is kept.
	recentLargest = 64 << 10
)

// recent keeps manifests that were read lately, since a cluster asks for the same ones over and over: the
// statement, with its locks on the WAL and what database/sql adds, is half of what an answer costs.
//
// Every write forgets all of it, whatever it was about, once it is committed and before whoever asked for it is
// told. That is more than needed and leaves nothing to be got wrong: what is in here, the database would say too.
type recent struct {
	mu    sync.RWMutex
	epoch uint64 // counts the times that all was forgotten
	bytes int
	known map[recentKey]Manifest
}

// recentKey is what a manifest was asked for as. Neither a digest is a tag nor the other way round.
type recentKey struct{ repo, reference string }

// get returns a manifest, or what put wants to be told: the epoch in which it was not known.
func (r *recent) get(k recentKey) (m Manifest, epoch uint64, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	m, ok = r.known[k]
	return m, r.epoch, ok
}

// put keeps a manifest, unless something was written since get: it may have been read before that.
func (r *recent) put(k recentKey, m Manifest, epoch uint64) {
	if len(m.Body) > recentLargest {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.epoch != epoch {
		return
	}
	if _, known := r.known[k]; known { // by another who asked at the same time
		return
	}
	for other, old := range r.known { // any: what is wanted comes back
		if r.bytes+recentCost(m) <= recentBytes {
			break
		}
		r.bytes -= recentCost(old)
		delete(r.known, other)
	}
	if r.known == nil {
		r.known = map[recentKey]Manifest{}
	}
	r.known[k] = m
	r.bytes += recentCost(m)
}

// recentCost counts the annotations and the entry itself as about as much as a small body.
func recentCost(m Manifest) int { return 2*len(m.Body) + 512 }

// forget is called after every write.
func (r *recent) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epoch++
	r.bytes = 0
	clear(r.known)
}

// recall answers from what is known, or reads and keeps it. Nobody may change what it returns.
func (s *Store) recall(repo, reference string, read func() (Manifest, error)) (Manifest, error) {
	k := recentKey{repo, reference}
	m, epoch, ok := s.recent.get(k)
	if !ok {
		var err error
		if m, err = read(); err != nil {
			return m, err
		}
		s.recent.put(k, m, epoch)
	}
	if m.pulled != (use{}) {
		s.uses.record(m.pulled, s.now())
	}
	return m, nil
}
