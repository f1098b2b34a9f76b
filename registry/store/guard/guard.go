// Package guard remembers what one process knows about blobs, uploads and runs in use, where the database cannot: between
// a row and its file, and for reads, which leave no row. Collection asks it before it removes anything. A second process
// does not see it, and a restart forgets it.
//
// Blobs is for blobs: which were checked lately, which are being written, which are marked for removal. Sessions is for
// upload sessions, Runs for runs, and Hold has collection leave files while a backup copies them.
//
// Each is locked for moments only, never over I/O. Where a write transaction is needed as well, that comes first; what
// waits for a marked digest, a session or a run has neither.
//
// Refused: one lock for each of the things that Blobs remembers, since a mark is decided by all of them at once.
package guard

import (
	"sync/atomic"
	"time"
)

// Set is all that one process remembers.
type Set struct {
	Blobs    *Blobs
	Sessions Sessions
	Runs     Runs
	Hold     Hold
}

// New returns a Set that has the time from now.
func New(now func() time.Time) *Set { return &Set{Blobs: newBlobs(now)} }

// Hold has collection leave the files of the blobs that it removes, while backups copy them.
type Hold struct{ backups atomic.Int32 }

// Begin holds files until End.
func (h *Hold) Begin() { h.backups.Add(1) }

// End ends Begin.
func (h *Hold) End() { h.backups.Add(-1) }

// Held reports whether files are to be left.
func (h *Hold) Held() bool { return h.backups.Load() > 0 }
