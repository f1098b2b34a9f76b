package stored

import (
	"context"
	"time"

	"github.com/mirror-appliance/appliance/registry/store"
)

const (
	// settle is how long a change of the store is left alone, since another follows it often.
	settle = time.Second
	// pause is the pause after a pass, as a multiple of its duration: clients have the machine first.
	pause = 10
)

// Follow calls pass now and after each change of the images in the store, until ctx ends. Without
// a change it is called again after as long as it has returned.
func Follow(ctx context.Context, s *store.Store, pass func(ctx context.Context) (again time.Duration)) {
	changed := s.Changed()
	for {
		began := time.Now()
		again := pass(ctx)
		if !sleep(ctx, pause*time.Since(began)) {
			return
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-time.After(again):
		}
		if !sleep(ctx, settle) {
			return
		}
	}
}

// sleep reports whether ctx lasts so long.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
