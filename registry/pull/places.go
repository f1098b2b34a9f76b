package pull

import (
	"context"
	"errors"
	"slices"
	"sync"
)

var errGaveWay = errors.New("given up: no client waits for it")

// places bounds the requests that are under way at an upstream at a time. No user has more than a share of them,
// so that one user cannot keep the others waiting; the anonymous are one user. A request that no client waits for
// gives way to one that a client waits for.
type places struct {
	limit int
	share int

	mu      sync.Mutex     // guards what follows and the places' fields
	held    []*place       // in the order in which they were taken
	users   map[string]int // places held, by the user that they count for
	waiting []*place       // in the order in which they came
}

func newPlaces(limit int) *places {
	return &places{limit: limit, share: max(limit/2, 1), users: map[string]int{}}
}

// A place is the right of a request to be under way.
type place struct {
	in     *places
	cancel context.CancelFunc // ends the request, see end

	users  []string      // one for each client that waits for the outcome
	user   string        // that it counts for, while it is held
	ready  chan struct{} // not nil: waiting; closed when it is held
	isHeld bool
	pauses bool // the request can stand still without a place, and go on from there
	ended  bool // it has given way for good
}

type placeKey struct{}

func (in *places) place(cancel context.CancelFunc) *place { return &place{in: in, cancel: cancel} }

// end ends the request for good.
func (p *place) end() {
	p.ended = true
	p.in.forget(p)
	p.cancel()
}

// want counts one more client, of that user, that waits for the outcome; false if there will be none.
func (p *place) want(user string) bool {
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	if p.ended {
		return false
	}
	p.users = append(p.users, user)
	p.in.assign()
	return true
}

// unwant counts one client less. With none left a request that has not begun ends.
func (p *place) unwant(user string) {
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	if i := slices.Index(p.users, user); i >= 0 {
		p.users = slices.Delete(p.users, i, i+1)
	}
	if len(p.users) == 0 && p.ready != nil && !p.pauses {
		p.end()
	}
	p.in.assign()
}

// pausable says that from now on the request can stand still.
func (p *place) pausable() {
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	p.pauses = true
}

// hold waits until the request may be under way; at once while it has its place.
func (p *place) hold(ctx context.Context) error {
	p.in.mu.Lock()
	if p.isHeld {
		p.in.mu.Unlock()
		return nil
	}
	if p.ready == nil {
		if len(p.users) == 0 && !p.pauses { // all have left before it has begun
			p.end()
			p.in.mu.Unlock()
			return errGaveWay
		}
		p.in.enqueue(p)
		p.in.assign()
	}
	ready := p.ready
	p.in.mu.Unlock()
	if ready == nil {
		return nil
	}
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		p.release()
		return ctx.Err()
	}
}

// release gives the place back, or stops waiting for it.
func (p *place) release() {
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	p.in.forget(p)
	p.in.give(p)
	p.in.assign()
}

// Idle runs wait, in which the request of ctx does nothing, and leaves its place to another meanwhile.
func Idle(ctx context.Context, wait func(context.Context) error) error {
	p, ok := ctx.Value(placeKey{}).(*place)
	if !ok {
		return wait(ctx)
	}
	p.release()
	if err := wait(ctx); err != nil {
		return err
	}
	return p.hold(ctx)
}

func (in *places) enqueue(p *place) {
	p.ready = make(chan struct{})
	in.waiting = append(in.waiting, p)
}

func (in *places) forget(p *place) {
	in.waiting = slices.DeleteFunc(in.waiting, func(other *place) bool { return other == p })
	p.ready = nil
}

func (in *places) give(p *place) {
	if !p.isHeld {
		return
	}
	p.isHeld = false
	in.held = slices.DeleteFunc(in.held, func(other *place) bool { return other == p })
	if in.users[p.user]--; in.users[p.user] == 0 {
		delete(in.users, p.user)
	}
}

// assign gives the places that are free, or held by what no client waits for, to those that wait.
func (in *places) assign() {
	for {
		p, user, victim := in.next()
		if p == nil {
			return
		}
		if victim != nil {
			in.takeAway(victim)
		}
		close(p.ready)
		in.forget(p)
		p.isHeld, p.user = true, user
		in.held = append(in.held, p)
		in.users[user]++
	}
}

// next returns what is to have a place next: of those that a client waits for the one whose user has the fewest, and
// of these the first. victim has to give way for it.
func (in *places) next() (best *place, user string, victim *place) {
	for _, p := range in.waiting {
		u := in.lightest(p)
		if best != nil && (len(p.users) == 0 || len(best.users) > 0 && in.users[u] >= in.users[user]) {
			continue
		}
		v, ok := in.room(p, u)
		if ok {
			best, user, victim = p, u, v
		}
	}
	return best, user, victim
}

// lightest is, of the users whose clients wait for p, the one with the fewest places.
func (in *places) lightest(p *place) string {
	if len(p.users) == 0 {
		return p.user
	}
	return slices.MinFunc(p.users, func(a, b string) int { return in.users[a] - in.users[b] })
}

// room reports whether there is a place for a request of user, be it after victim has given way.
func (in *places) room(p *place, user string) (victim *place, ok bool) {
	full := in.users[user] >= in.share
	if !full && len(in.held) < in.limit {
		return nil, true
	}
	if len(p.users) == 0 {
		return nil, false
	}
	for _, held := range in.held {
		if len(held.users) == 0 && (!full || held.user == user) {
			return held, true
		}
	}
	return nil, false
}

// takeAway ends a request, or has it wait until there is a place again. Those that wait without a client that waits for
// them are few: each has a connection and a file open.
func (in *places) takeAway(p *place) {
	in.give(p)
	if !p.pauses {
		p.end()
		return
	}
	in.enqueue(p)
	paused := 0
	var first *place
	for _, p := range in.waiting {
		if len(p.users) == 0 {
			if paused++; first == nil {
				first = p
			}
		}
	}
	if paused > in.limit {
		first.end()
	}
}
