package guard

import (
	"context"
	"sync"
	"time"
)

// heardKept is how many runs are known to be alive without their row.
const heardKept = 256

// Runs remembers which runs are alive. The zero value is ready for use.
type Runs struct {
	mu         sync.Mutex               // guards what follows
	active     map[string]int           // with a blob under way, or being committed
	committing map[string]chan struct{} // closed at the end
	heard      map[string]time.Time     // when a run was last heard of, if that is not in its row
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

// EnterCommit waits until no other request commits a run, and keeps it alive and to the caller until LeaveCommit.
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

// HeardOf records that a run is alive.
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

// TakeHeard returns when runs were heard of, and forgets it.
func (r *Runs) TakeHeard() map[string]time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	heard := r.heard
	r.heard = nil
	return heard
}

// Active reports whether a run has a blob under way, or was heard of since before.
func (r *Runs) Active(id string, before time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	heard, ever := r.heard[id]
	return r.active[id] > 0 || ever && !heard.Before(before)
}
