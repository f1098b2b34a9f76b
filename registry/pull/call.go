package pull

import (
	"context"
	"fmt"
	"time"

	"github.com/mirror-appliance/appliance/registry/store"
)

// A call is a request for a manifest that several clients wait for.
type call struct {
	done     chan struct{} // closed when the two below are set
	manifest store.Manifest
	err      error
}

// call runs fn, once for all who ask under the same key meanwhile, and waits for
// it: no longer than patience (0: as long as it takes) and ctx. fn goes on
// without those who have left, so that the next to ask finds its result held.
func (p *Puller) call(ctx context.Context, key string, patience time.Duration, fn func(context.Context) (store.Manifest, error)) (store.Manifest, error) {
	c, err := p.join(key, fn)
	if err != nil {
		return store.Manifest{}, err
	}
	var late <-chan time.Time
	if patience > 0 {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-c.done:
		return c.manifest, c.err
	case <-ctx.Done():
		return store.Manifest{}, ctx.Err()
	case <-late:
		return store.Manifest{}, fmt.Errorf("no answer within %s", patience)
	}
}

func (p *Puller) join(key string, fn func(context.Context) (store.Manifest, error)) (*call, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	if c, ok := p.calls[key]; ok {
		return c, nil
	}
	c := &call{done: make(chan struct{})}
	p.calls[key] = c
	p.fetches.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, p.askLimit)
		defer cancel()
		c.manifest, c.err = fn(ctx)
		p.mu.Lock()
		delete(p.calls, key)
		p.mu.Unlock()
		close(c.done)
	})
	return c, nil
}
