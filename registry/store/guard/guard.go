// Package guard remembers the blobs, uploads and runs that one process uses, where the database
// cannot: between a row and its file, and for reads, which leave no row. Collection asks it before
// it removes anything. A second process does not see it, and a restart forgets it.
//
// Blobs knows which blobs were checked lately, are being written, or are marked for removal.
// Sessions is for upload sessions, Runs for runs, and Backups counts the backups that copy files.
//
// Each is locked for moments only, never over I/O. A write transaction comes before the lock; a
// wait for a marked digest, a session or a run has neither.
//
// Refused: a lock for each part of Blobs, since a mark depends on all of them at once.
package guard

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Set has all of them.
type Set struct {
	Blobs    *Blobs
	Sessions Sessions
	Runs     Runs
	Backups  atomic.Int32 // under way: collection keeps the files of the blobs that it removes
}

// New returns a Set that has the time from now.
func New(now func() time.Time) *Set { return &Set{Blobs: newBlobs(now)} }

// Sessions gives each upload session to one request at a time. The zero value is ready for use.
type Sessions struct {
	mu    sync.Mutex
	inUse map[string]chan struct{} // closed on release
}

// BusyError reports that another request is using an upload session.
type BusyError struct {
	ID string
	// Elsewhere reports that the request is at another daemon. That may have died: then the session is free once its
	// lease has ended.
	Elsewhere bool
}

func (e *BusyError) Error() string {
	if e.Elsewhere {
		return fmt.Sprintf("upload %s is in use by a request at another daemon; try again", e.ID)
	}
	return fmt.Sprintf("upload %s is in use by another request", e.ID)
}

// Take takes a session, and waits up to patience for the request that has it: a client sends the
// next chunk as soon as it has read the answer to the last, while that request is still closing.
// *BusyError.
func (s *Sessions) Take(ctx context.Context, id string, patience time.Duration) error {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		released, busy := s.take(id)
		if !busy {
			return nil
		}
		select {
		case <-released:
		case <-timeout.C:
			return &BusyError{ID: id}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// TryTake takes a session unless another request has it.
func (s *Sessions) TryTake(id string) bool {
	_, busy := s.take(id)
	return !busy
}

func (s *Sessions) take(id string) (released <-chan struct{}, busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if released, busy := s.inUse[id]; busy {
		return released, true
	}
	if s.inUse == nil {
		s.inUse = map[string]chan struct{}{}
	}
	s.inUse[id] = make(chan struct{})
	return nil, false
}

// InUse reports whether a request has a session.
func (s *Sessions) InUse(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, busy := s.inUse[id]
	return busy
}

// Release ends Take.
func (s *Sessions) Release(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.inUse[id])
	delete(s.inUse, id)
}

// heardKept bounds the runs whose latest access is not in their row.
const heardKept = 256

// Runs remembers which runs are alive. The zero value is ready for use.
type Runs struct {
	mu         sync.Mutex               // guards what follows
	active     map[string]int           // with a blob under way, or being committed
	committing map[string]chan struct{} // closed at the end
	heard      map[string]time.Time     // latest accesses that are not in the rows
}

// Enter keeps a run alive until Leave.
func (r *Runs) Enter(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.enter(id)
}

func (r *Runs) enter(id string) {
	if r.active == nil {
		r.active = map[string]int{}
	}
	r.active[id]++
}

// Leave ends Enter.
func (r *Runs) Leave(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leave(id)
}

func (r *Runs) leave(id string) {
	if r.active[id]--; r.active[id] == 0 {
		delete(r.active, id)
	}
}

// Entered lists the runs with a blob under way, or being committed.
func (r *Runs) Entered() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Keys(r.active))
}

// EnterCommit waits until no other request commits a run, and reserves it for the caller until
// LeaveCommit.
func (r *Runs) EnterCommit(ctx context.Context, id string) error {
	for {
		r.mu.Lock()
		ended, busy := r.committing[id]
		if !busy {
			if r.committing == nil {
				r.committing = map[string]chan struct{}{}
			}
			r.committing[id] = make(chan struct{})
			r.enter(id)
		}
		r.mu.Unlock()
		if !busy {
			return nil
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// LeaveCommit ends EnterCommit.
func (r *Runs) LeaveCommit(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.committing[id])
	delete(r.committing, id)
	r.leave(id)
}

// Committing reports whether a run is being committed.
func (r *Runs) Committing(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, is := r.committing[id]
	return is
}

// HeardOf records an access of a run.
func (r *Runs) HeardOf(id string, t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.heard) >= heardKept {
		clear(r.heard) // their rows are only a little behind
	}
	if r.heard == nil {
		r.heard = map[string]time.Time{}
	}
	r.heard[id] = t
}

// TakeHeard returns the recorded accesses, and forgets them.
func (r *Runs) TakeHeard() map[string]time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	heard := r.heard
	r.heard = nil
	return heard
}

// Active reports whether a run has a blob under way, or an access since before.
func (r *Runs) Active(id string, before time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	heard, ever := r.heard[id]
	return r.active[id] > 0 || ever && !heard.Before(before)
}
