package pull

import (
	"context"
	"fmt"
	"time"

	"github.com/mirror-appliance/appliance/registry/auth"
)

// A call is a small request that several clients may wait for.
type call struct {
	place *place
	done  chan struct{} // closed when value and err are set
	value any
	err   error
}

// ask runs fn in a place of the route, once for all clients that ask under the same key at a time. It waits no longer than
// ctx and patience (0: no limit). fn continues without clients, so that the next one finds its result stored, unless
// another request needs its place.
func ask[T any](ctx context.Context, p *Puller, o origin, key string, patience time.Duration, fn func(context.Context) (T, error)) (none T, _ error) {
	user := userOf(ctx)
	c, err := p.join(o, key, user, func(ctx context.Context) (any, error) { return fn(ctx) })
	if err != nil {
		return none, err
	}
	defer c.place.unwant(user)
	var late <-chan time.Time
	if patience > 0 {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		late = timer.C
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
		return none, fmt.Errorf("no answer within %s", patience)
	}
}

func (p *Puller) join(o origin, key, user string, fn func(context.Context) (any, error)) (*call, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	if c, ok := p.calls[key]; ok && c.place.want(user) {
		return c, nil
	}
	ctx, cancel := context.WithTimeout(p.ctx, p.askLimit)
	c := &call{place: o.asks.place(cancel), done: make(chan struct{})}
	c.place.want(user)
	p.calls[key] = c
	p.fetches.Go(func() {
		defer cancel()
		if c.err = c.place.hold(ctx); c.err == nil {
			c.value, c.err = fn(context.WithValue(ctx, placeKey{}, c.place))
		}
		c.place.release()
		p.mu.Lock()
		if p.calls[key] == c {
			delete(p.calls, key)
		}
		p.mu.Unlock()
		close(c.done)
	})
	return c, nil
}

// userOf returns the name of the request's user, "" for anonymous.
func userOf(ctx context.Context) string {
	id, _ := auth.IdentityFrom(ctx)
	return id.Name
}
