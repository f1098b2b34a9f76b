package store

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

const (
	// stepTime is about how long a step of a collection takes while there are reads. A thread
	// that the kernel queues behind it on the same processor waits for all of it, even when
	// another processor is idle.
	stepTime = 250 * time.Microsecond

	// quietAfter is the time without a read after which a collection takes large steps.
	quietAfter = 100 * time.Millisecond
)

// reading knows whether there are reads, by their count: it costs a read less than the time does.
type reading struct {
	count atomic.Int64
	seen  atomic.Int64        // count at the last look
	when  atomic.Int64        // of the last look at which it had changed, in nanoseconds
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

// yielding makes a collection give way to reads: while there are any its steps are small, and it
// pauses after each, no longer than the step took, so that it makes progress however many reads
// there are.
type yielding struct {
	store *core
	began time.Time
}

func (s *core) yielding() *yielding {
	return &yielding{store: s, began: time.Now()}
}

// stepSize is the size of a step, with and without reads.
type stepSize struct{ busy, quiet int }

// size returns the size of the next step.
func (y *yielding) size(s stepSize) int {
	if y.store.reading.lately(time.Now()) {
		return s.busy
	}
	return s.quiet
}

// begin begins a step that has waited for the writer.
func (y *yielding) begin() { y.began = time.Now() }

// over reports whether the step has used up its time.
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

// sleep sleeps for less than a millisecond, the least that a timer of the runtime takes in an idle
// process. An interruption does no harm.
func sleep(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&t, nil)
}

const (
	// manifestWrites bounds the manifests of a user in parsing and in the queue for the writer: a
	// transaction takes no more.
	manifestWrites = database.GroupSize
	// largeManifest is the size from which a user has one at a time: parsing megabytes takes a
	// core.
	largeManifest = 256 << 10
)

// WithUser returns a context whose writes belong to a user: users take turns at the one writer.
func WithUser(ctx context.Context, name string) context.Context { return database.WithUser(ctx, name) }

// places bounds what each user does at a time.
type places struct {
	limit int

	mu    sync.Mutex // guards what follows
	users map[string]*userPlaces
}

type userPlaces struct {
	taken  chan struct{}
	asking int // requests that have a place or wait for one
}

// enter waits for a place of the user of ctx. The caller calls leave.
func (p *places) enter(ctx context.Context) (leave func(), err error) {
	name := database.User(ctx)
	p.mu.Lock()
	if p.users == nil {
		p.users = map[string]*userPlaces{}
	}
	u := p.users[name]
	if u == nil {
		u = &userPlaces{taken: make(chan struct{}, p.limit)}
		p.users[name] = u
	}
	u.asking++
	p.mu.Unlock()
	forget := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if u.asking--; u.asking == 0 {
			delete(p.users, name)
		}
	}
	select {
	case u.taken <- struct{}{}:
	case <-ctx.Done():
		forget()
		return nil, ctx.Err()
	}
	return func() { <-u.taken; forget() }, nil
}

// manifestPlaces are the places for writes of manifests.
type manifestPlaces struct{ small, large places }

func newManifestPlaces() manifestPlaces {
	return manifestPlaces{small: places{limit: manifestWrites}, large: places{limit: 1}}
}

// enter waits until the user of ctx may write a manifest of size bytes.
func (p *manifestPlaces) enter(ctx context.Context, size int) (leave func(), err error) {
	if size >= largeManifest {
		return p.large.enter(ctx)
	}
	return p.small.enter(ctx)
}
