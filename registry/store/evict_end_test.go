package store

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// asked is a context that has a manifest asked for, a second later each time, as often as it is
// looked at itself. It ends when that was ten thousand times.
type asked struct {
	context.Context
	cancel func()
	store  *Store
	key    linkKey
	looks  *atomic.Int64
}

func (a asked) Done() <-chan struct{} {
	n := a.looks.Add(1)
	a.store.accesses.record(a.key, a.store.now().Add(time.Duration(n)*time.Second))
	if n == 10_000 {
		a.cancel()
	}
	return a.Context.Done()
}

// What cannot go and is asked for all the time moves to the end of the list each time that
// uses are written down.
func TestStore_EvictPulled_ends(t *testing.T) {
	f := newFixture(t)
	child := f.pull("hub/app", "v1")
	_, err := f.Manifests.Put(f.ctx, "hub/app", index(child.Descriptor()), PutOptions{})
	f.must(err)
	child, err = f.Manifests.Get(f.ctx, "hub/app", child.Digest)
	f.must(err)
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	ctx = asked{ctx, cancel, f.Store, child.pulled, new(atomic.Int64)}
	if _, _, err := f.Garbage.EvictPulled(ctx, -1); err != nil { // so that there is never little enough
		t.Errorf("it does not come to an end: %v", err)
	}
}
