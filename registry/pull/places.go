package pull

import (
	"context"
	"errors"
	"slices"
	"sync"
)

var errGaveWay = errors.New("stopped: no client waits for it")

// places limits the requests to an upstream at a time. No user has more than a share of them, so
// that one user cannot delay the others; anonymous clients are one user. A request without a
// waiting client gives way to one with.
type places struct {
	limit int
	share int

	mu      sync.Mutex     // guards what follows and the places' fields
	held    []*place       // in the order in which they were taken
	users   map[string]int // held places by user
	waiting []*place       // in order of arrival
}

func newPlaces(limit int) *places {
	return &places{limit: limit, share: max(limit/2, 1), users: map[string]int{}}
}

// A place is the right of a request to run.
type place struct {
	in     *places
	cancel context.CancelFunc // ends the request, see end

	users  []string      // one for each client that waits for the result
	user   string        // counted for the place while it is held
	ready  chan struct{} // closed when the place is held; nil: not waiting
	isHeld bool
	pauses bool // the request can pause without a place, and continue
	ended  bool
}

type placeKey struct{}

func (in *places) place(cancel context.CancelFunc) *place { return &place{in: in, cancel: cancel} }

// end ends the request for good.
func (p *place) end() {
	p.ended = true
	p.in.forget(p)
	p.cancel()
}

// want adds a waiting client of that user. It returns false if the request has ended.
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

// unwant removes a waiting client. Without any, a request that has not begun ends.
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

// pausable records that the request can pause from now on.
func (p *place) pausable() {
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	p.pauses = true
}

// hold waits for the place, and returns at once while it is held.
func (p *place) hold(ctx context.Context) error {
	p.in.mu.Lock()
	if p.isHeld {
		p.in.mu.Unlock()
		return nil
	}
	if p.ready == nil {
		if len(p.users) == 0 && !p.pauses { // every client left before it began
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

// release gives the place up, or stops waiting for it.
func (p *place) release() {
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	p.in.forget(p)
	p.in.give(p)
	p.in.assign()
}

// Idle runs wait, during which the request of ctx does nothing, and gives up its place meanwhile.
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

// assign gives free places, and places whose requests give way, to waiting requests.
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

// next returns the next request to get a place: with a waiting client, of the user with the fewest
// places, the earliest. victim gives way for it.
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

// lightest returns the user with the fewest places among those that wait for p.
func (in *places) lightest(p *place) string {
	if len(p.users) == 0 {
		return p.user
	}
	return slices.MinFunc(p.users, func(a, b string) int { return in.users[a] - in.users[b] })
}

// room reports whether a request of user can have a place, perhaps after victim has given way.
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

// takeAway ends a request or pauses it. Few may pause without a waiting client: each has a
// connection and a file open.
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
