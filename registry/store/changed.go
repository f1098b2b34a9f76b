package store

import (
	"sync"
	"sync/atomic"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// changeSignal tells what depends on the images of the store that they have changed.
type changeSignal struct {
	pending atomic.Bool // in the transaction under way

	mu        sync.Mutex
	receivers []chan struct{}
}

// Changed returns a channel that has a value after tags, origins or manifests came, moved or went, a
// blob went or came back, or users changed, by whose grants some images count and others do not.
// Several changes are one. Each call makes a channel for one receiver, which is kept as long as the
// store.
func (s *Store) Changed() <-chan struct{} {
	c := make(chan struct{}, 1)
	s.signal.mu.Lock()
	defer s.signal.mu.Unlock()
	s.signal.receivers = append(s.signal.receivers, c)
	return c
}

// note is called for each row that changes, before the commit.
func (s *changeSignal) note(row database.Change) {
	if changesImages(row) {
		s.pending.Store(true)
	}
}

// changesImages reports whether a change of a row is one of which Changed tells.
func changesImages(row database.Change) bool {
	switch row.Table {
	case "", // any
		"tags", "origins", "users", "quarantine":
		return true
	case "repository_manifests": // its updates are about access
		return row.Op != database.Update
	case "repository_blobs": // a manifest comes after its blobs
		return row.Op == database.Delete
	}
	return false
}

// committed is called after each transaction.
func (s *changeSignal) committed() {
	if !s.pending.Swap(false) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.receivers {
		select {
		case c <- struct{}{}:
		default: // it has one
		}
	}
}
