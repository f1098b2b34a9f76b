package store

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// manifestWrites is how many manifests a user may have in parsing and in the queue for the writer. More than fill a
	// group do not get a user on.
	manifestWrites = groupSize
	// largeManifest is the size from which a user has one of them at a time: parsing megabytes takes a core.
	largeManifest = 256 << 10
)

type userKey struct{}

// WithUser returns a context in which writes count as those of a user: users take turns at the one writer. Without
// it they count as those of the daemon, such as pull-through for anonymous clients.
func WithUser(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, userKey{}, name)
}

func userFrom(ctx context.Context) string {
	name, _ := ctx.Value(userKey{}).(string)
	return name
}

// queue has the writes that wait, by user. The user who was served least has the next turn, so that a write waits
// for those of its own user, and for one of each other. What served means is the time that the writer took. A user
// who comes is as one who was served as much as the one served last: who was away has nothing to catch up on.
type queue struct {
	lines map[string]*line
	came  uint64        // how many writes have come
	start time.Duration // what the user taken last had been served before
}

// line has the writes of one user, in the order that they came in.
type line struct {
	served time.Duration
	writes []*shared
}

func (q *queue) add(w *shared) {
	if q.lines == nil {
		q.lines = map[string]*line{}
	}
	l := q.lines[w.user]
	if l == nil {
		l = &line{}
		q.lines[w.user] = l
	}
	if len(l.writes) == 0 {
		l.served = max(l.served, q.start)
	}
	q.came++
	w.came = q.came
	l.writes = append(l.writes, w)
}

// take gives the next write, if it is one that the caller may have. With none left all are forgotten.
func (q *queue) take(may func(*shared) bool) *shared {
	var next *line
	for _, l := range q.lines {
		if len(l.writes) > 0 && (next == nil || l.served < next.served || l.served == next.served && l.writes[0].came < next.writes[0].came) {
			next = l
		}
	}
	if next == nil {
		q.lines, q.start = nil, 0
		return nil
	}
	w := next.writes[0]
	if !may(w) {
		return nil
	}
	next.writes = slices.Delete(next.writes, 0, 1)
	q.start = next.served
	return w
}

func (q *queue) charge(user string, cost time.Duration) {
	if l := q.lines[user]; l != nil {
		l.served += cost
	}
}

func (q *queue) remove(w *shared) bool {
	l := q.lines[w.user]
	if l == nil {
		return false
	}
	i := slices.Index(l.writes, w)
	if i < 0 {
		return false
	}
	l.writes = slices.Delete(l.writes, i, i+1)
	return true
}

func (q *queue) len() (n int) {
	for _, l := range q.lines {
		n += len(l.writes)
	}
	return n
}

// places are those that the users have for something of which each may do so many at a time.
type places struct {
	limit int

	mu    sync.Mutex // guards what follows
	users map[string]*userPlaces
}

type userPlaces struct {
	taken  chan struct{}
	asking int // have a place, or wait for one
}

// enter waits until the user of ctx has a place. The caller calls leave.
func (p *places) enter(ctx context.Context) (leave func(), err error) {
	name := userFrom(ctx)
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

// manifestPlaces are those for manifests that are being written.
type manifestPlaces struct{ small, large places }

func newManifestPlaces() manifestPlaces {
	return manifestPlaces{small: places{limit: manifestWrites}, large: places{limit: 1}}
}

// enter waits until the user of ctx may write another manifest, of so many bytes.
func (p *manifestPlaces) enter(ctx context.Context, size int) (leave func(), err error) {
	if size >= largeManifest {
		return p.large.enter(ctx)
	}
	return p.small.enter(ctx)
}
