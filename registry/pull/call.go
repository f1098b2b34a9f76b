package pull

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/registry/auth"
)

var errClosed = errors.New("pull-through is shutting down")

// A lifetime ends the calls and downloads of a Puller.
type lifetime struct {
	ctx     context.Context
	cancel  context.CancelFunc
	fetches sync.WaitGroup

	mu     sync.Mutex // guards ctx and closed, and what calls and downloads have under way
	closed bool
}

// interrupt ends all calls and downloads. Later ones are made.
func (l *lifetime) interrupt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.cancel()
	l.ctx, l.cancel = context.WithCancel(context.Background())
}

// Close ends all calls and downloads and waits for them. Their clients fail.
func (l *lifetime) Close() error {
	l.mu.Lock()
	l.closed = true
	l.cancel()
	l.mu.Unlock()
	l.fetches.Wait()
	return nil
}

// calls are the small requests to upstreams under way.
type calls struct {
	*lifetime
	limit time.Duration // of one request, retries included
	byKey map[string]*call
}

// A call is a small request that several clients may wait for.
type call struct {
	place *place
	done  chan struct{} // closed when value and err are set
	value any
	err   error
}

// ask runs fn in a place of the route, once for all clients that ask under the same key at a time.
// It waits no longer than ctx and patience (0: no limit). fn continues without clients, so that the
// next one finds its result stored, unless another request needs its place.
func ask[T any](ctx context.Context, cs *calls, o origin, key string, patience time.Duration,
	fn func(context.Context) (T, error)) (none T, _ error) {
	if err := o.down(); err != nil {
		return none, err
	}
	user, answers := userOf(ctx), o.peer.came()
	c, err := cs.join(o, key, user, func(ctx context.Context) (any, error) { return fn(ctx) })
	if err != nil {
		return none, err
	}
	defer c.place.unwant(user)
	var late <-chan time.Time
	if patience > 0 {
		late = time.After(patience)
	}
	select {
	case <-c.done:
		if c.err != nil {
			return none, c.err
		}
		return c.value.(T), nil
	case <-ctx.Done():
		return none, ctx.Err()
	case <-late:
		o.peer.late(answers)
		return none, fmt.Errorf("no answer within %s", patience)
	}
}

// askFor is ask for what is not held, which the upstream has not lacked a moment ago.
func askFor[T any](ctx context.Context, cs *calls, o origin, kind, name, key string,
	fn func(context.Context) (T, error)) (none T, _ error) {
	if err := o.lacks(kind, name); err != nil {
		return none, err
	}
	return ask(ctx, cs, o, key, 0, func(ctx context.Context) (T, error) {
		if err := o.lacks(kind, name); err != nil {
			return none, err // found by the call before
		}
		return fn(ctx)
	})
}

func (cs *calls) join(o origin, key, user string, fn func(context.Context) (any, error)) (*call, error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed {
		return nil, errClosed
	}
	if c, ok := cs.byKey[key]; ok && c.place.want(user) {
		return c, nil
	}
	ctx, cancel := context.WithTimeout(cs.ctx, cs.limit)
	c := &call{place: o.asks.place(cancel), done: make(chan struct{})}
	c.place.want(user)
	cs.byKey[key] = c
	cs.fetches.Go(func() {
		defer cancel()
		if c.err = c.place.hold(ctx); c.err == nil {
			c.value, c.err = fn(context.WithValue(ctx, placeKey{}, c.place))
		}
		c.place.release()
		cs.mu.Lock()
		if cs.byKey[key] == c {
			delete(cs.byKey, key)
		}
		cs.mu.Unlock()
		close(c.done)
	})
	return c, nil
}

// forget has later clients not wait for the calls under way, which go on.
func (cs *calls) forget() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	clear(cs.byKey)
}

// userOf returns the name of the request's user, "" for anonymous.
func userOf(ctx context.Context) string {
	id, _ := auth.IdentityFrom(ctx)
	return id.Name
}
