package registry

import (
	"context"
	"errors"
	"sync"

	"github.com/mirror-appliance/appliance/internal/regular"
	"github.com/mirror-appliance/appliance/registry/role"
	"github.com/mirror-appliance/appliance/registry/store"
)

// family is this appliance among those with the same content, and what of the daemon depends on its role.
type family struct {
	*role.Family
	d *daemon

	mu      sync.Mutex
	turned  chan struct{} // closed when the role changes
	primary context.Context
	end     context.CancelFunc
	engine  *copying // nil: nothing is copied
}

// openFamily reads the role.
func (d *daemon) openFamily(ctx context.Context) error {
	f := &family{d: d, turned: make(chan struct{})}
	f.primary, f.end = context.WithCancel(context.Background())
	var err error
	var shared *role.Shared
	if d.store.Several() {
		shared = &role.Shared{Swap: d.store.SwapNote, Guard: store.Guard}
	}
	f.Family, err = role.Open(ctx, role.Options{Notes: d.store, Shared: shared, Address: d.cfg.Address(), Followers: f.followers, Register: f.register, Unregister: f.unregister,
		Compare: f.compare, CatchUp: f.catchUp, Behind: f.behind, Turned: f.turn, Seal: d.sealLogin(), Log: d.log})
	if err != nil {
		return err
	}
	d.family = f
	return nil
}

// sealLogin returns what encrypts the login of the appliance that is followed, nil where there is no key.
func (d *daemon) sealLogin() *role.Seal {
	const name = "login of the appliance that is followed"
	if d.key == nil {
		return nil
	}
	return &role.Seal{Close: func(text string) string { return d.key.Seal(name, text) },
		Open: func(sealed string) (string, error) { return d.key.Unseal(name, sealed) }}
}

// ownCA returns the CA that verifies this appliance, "" if that is not known.
func (d *daemon) ownCA() string {
	if d.cfg.TLS.CA == "" {
		return ""
	}
	data, err := regular.ReadFile(d.cfg.TLS.CA)
	if err != nil {
		return ""
	}
	return string(certificatesIn(data))
}

// turn is called at each change of the role. When it returns, nothing is copied any more.
func (f *family) turn(now role.State) {
	if now.First != nil {
		f.dropFollower(now.First.ID)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.engine.end()
	if f.engine != nil && now.First != nil && now.First.ID != f.engine.first {
		f.another()
	}
	f.engine = nil
	close(f.turned)
	f.turned = make(chan struct{})
	f.end()
	f.primary, f.end = context.WithCancel(context.Background())
	f.d.holdUpstreams()
}

// dropFollower removes the appliance that this one follows from its followers: it was one until it took this one's place.
func (f *family) dropFollower(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), checkLimit)
	defer cancel()
	if err := f.d.store.Feed.Remove(ctx, id); err != nil && !errors.Is(err, store.ErrNotFound) {
		f.d.log.Warn("the appliance that is followed could not be removed from the followers of this one", "id", id, "error", err)
	}
}

// whilePrimary calls do while the appliance takes changes, until ctx ends.
func (f *family) whilePrimary(ctx context.Context, do func(context.Context) error) error {
	for {
		f.mu.Lock()
		turned, primary := f.turned, f.primary
		f.mu.Unlock()
		if f.Writable() {
			within, cancel := context.WithCancel(ctx)
			stop := context.AfterFunc(primary, cancel)
			err := do(within)
			stop()
			cancel()
			if err != nil && !errors.Is(err, context.Canceled) || ctx.Err() != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-turned:
		}
	}
}

// changing returns run for an appliance that takes changes: it is refused by another role, and ended before
// the role changes. plans reports which requests change nothing; nil: none.
func changing[Q, P, R any](f *family, plans func(Q) bool, run func(context.Context, Q, func(P)) (R, error)) func(context.Context, Q, func(P)) (R, error) {
	return func(ctx context.Context, q Q, progress func(P)) (result R, err error) {
		if plans != nil && plans(q) {
			return run(ctx, q, progress)
		}
		err = f.Do(ctx, func(ctx context.Context) (err error) {
			result, err = run(ctx, q, progress)
			return err
		})
		return result, err
	}
}

// holdUpstreams has no upstream asked while the link is cut, or the role has the content come from
// elsewhere.
func (d *daemon) holdUpstreams() {
	if d.upstreams == nil || d.upstreams.puller == nil {
		return
	}
	d.holding.Lock()
	defer d.holding.Unlock()
	reason := role.RefusalOf(d.family.State())
	if reason == nil {
		reason = d.link.Gate()
	}
	d.upstreams.hold(reason)
}
