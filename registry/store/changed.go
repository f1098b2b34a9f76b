package store

import (
	"sync/atomic"

	modernc "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// changeSignal tells what depends on the images of the store that they have changed.
type changeSignal struct {
	pending atomic.Bool // in the transaction under way
	changed chan struct{}
}

// Changed returns a channel that has a value after tags, origins or manifests came, moved or went, or
// a blob went or came back. Several changes are one. It is for one receiver.
func (s *Store) Changed() <-chan struct{} { return s.signal.changed }

// note is called by SQLite for each row that changes, before the commit.
func (s *changeSignal) note(row modernc.SQLitePreUpdateData) {
	if row.DatabaseName != "main" {
		return
	}
	switch row.TableName {
	case "tags", "origins":
	case "repository_manifests": // its updates are about access
		if row.Op == sqlite3.SQLITE_UPDATE {
			return
		}
	case "repository_blobs": // a manifest comes after its blobs
		if row.Op != sqlite3.SQLITE_DELETE {
			return
		}
	case "quarantine":
	default:
		return
	}
	s.pending.Store(true)
}

// committed is called after each transaction.
func (s *changeSignal) committed() {
	if !s.pending.Swap(false) {
		return
	}
	select {
	case s.changed <- struct{}{}:
	default: // it has one
	}
}
