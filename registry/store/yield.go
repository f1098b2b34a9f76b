package store

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// stepTime is about how long a step of a collection takes while there are reads. A thread that the kernel has put behind
	// it on the same processor waits for all of the step, even when another processor is idle.
	stepTime = 250 * time.Microsecond

	// quietAfter is for how long there must have been no read until a collection takes large steps.
	quietAfter = 100 * time.Millisecond
)

// reading tells whether there are reads, from their count: to count costs a read less than to look at the clock.
type reading struct {
	count atomic.Int64
	seen  atomic.Int64        // what count was at the last look
	when  atomic.Int64        // the last look at which it had changed, in nanoseconds
	pause func(time.Duration) // nil: sleep
}

// lately reports whether there was a read a moment ago.
func (r *reading) lately(now time.Time) bool {
	if n := r.count.Load(); r.seen.Swap(n) != n {
		r.when.Store(now.UnixNano())
		return true
	}
	return now.UnixNano()-r.when.Load() < int64(quietAfter)
}

// yielding has a collection give way to reads: while there are any its steps are small, and it pauses after each. Without
// any, as on a full disk, steps are large and there is no pause. A pause is never longer than the
// step before it, so that a collection makes progress however many reads there are.
type yielding struct {
	store *core
	began time.Time
}

func (s *core) yielding() *yielding {
	return &yielding{store: s, began: time.Now()}
}

// stepSize is how much a step takes on: few things while there are reads, else many.
type stepSize struct{ busy, quiet int }

// size is how much the next step takes on.
func (y *yielding) size(s stepSize) int {
	if y.store.reading.lately(time.Now()) {
		return s.busy
	}
	return s.quiet
}

// begin begins a step that has waited for the writer.
func (y *yielding) begin() { y.began = time.Now() }

// over reports whether the step has taken its time, so that what is left of it is for the next.
func (y *yielding) over() bool {
	now := time.Now()
	return now.Sub(y.began) >= stepTime && y.store.reading.lately(now)
}

// yield ends a step, and begins the next after a pause if there are reads.
func (y *yielding) yield(ctx context.Context) error {
	if now := time.Now(); y.store.reading.lately(now) {
		rest := y.store.reading.pause
		if rest == nil {
			rest = sleep
		}
		rest(min(now.Sub(y.began), stepTime))
	}
	y.begin()
	return ctx.Err()
}

// sleep sleeps for less than a millisecond, which is the least that a timer of the runtime takes in an idle process. It
// may be interrupted, which does no harm.
func sleep(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&t, nil)
}
