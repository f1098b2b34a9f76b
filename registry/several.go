package registry

import (
	"context"
	"errors"
	"time"
)

// heedEvery is how often a daemon reads what it goes by and others may have written, if it is not told.
const heedEvery = 5 * time.Second

// heedOthers has this daemon go by what another one of its store has decided: the role, and whether the
// link is cut. It returns when ctx ends, and at once where there is no other.
func (d *daemon) heedOthers(ctx context.Context) error {
	if !d.store.Several() {
		return nil
	}
	failing := false
	for {
		err := errors.Join(d.family.Refresh(ctx), d.link.refresh(ctx))
		if err != nil && ctx.Err() == nil && !failing {
			d.log.WarnContext(ctx, "what other daemons of this store have decided cannot be read", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-d.store.Noted():
		case <-time.After(heedEvery):
		}
	}
}
