package store

import (
	"context"
	"time"
)

// longestYield bounds how long a collection pauses between two steps.
const longestYield = 25 * time.Millisecond

// yielding has the steps of a collection give way to reads. Without any, as on a disk so full that nothing goes on, a
// collection takes no longer for it; with many, twice as long at most.
type yielding struct {
	store *Store
	asked int64
	began time.Time
}

func (s *Store) yielding() *yielding {
	return &yielding{store: s, asked: s.asked.Load(), began: time.Now()}
}

// yield pauses for as long as the last step took, if something was read meanwhile.
func (y *yielding) yield(ctx context.Context) error {
	if asked := y.store.asked.Load(); asked != y.asked {
		y.asked = asked
		if err := pause(ctx, min(time.Since(y.began), longestYield)); err != nil {
			return err
		}
	}
	y.began = time.Now()
	return ctx.Err()
}
