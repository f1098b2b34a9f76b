package pull

import (
	"context"
	"fmt"
	"time"

	"github.com/mirror-appliance/appliance/registry/auth"
)

// A call is a request for something small that several clients wait for.
type call struct {
	place *place
	done  chan struct{} // closed when the two below are set
	value any
	err   error
}

// ask runs fn, once for all who ask under the same key meanwhile, in a place of the route, and waits for
// it: no longer than patience (0: as long as it takes) and ctx. fn goes on without those who have left, so that the
// next to ask finds its result held, unless it has to give way.
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

// userOf is the name of the user that asks, "" for the anonymous.
func userOf(ctx context.Context) string {
	id, _ := auth.IdentityFrom(ctx)
	return id.Name
}
