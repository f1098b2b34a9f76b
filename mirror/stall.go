package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// DefaultImageTimeout is oc-mirror's.
const DefaultImageTimeout = 10 * time.Minute

// activity is when an image was last heard of: a byte that came, or an answer. It is in the context
// of the image.
type activity struct {
	limit time.Duration
	last  atomic.Int64 // in nanoseconds
	end   context.CancelCauseFunc
}

type activityKey struct{}

// watch returns the context of an image, which ends when a call for it makes no progress for as
// long as Options.ImageTimeout says. To wait for another image is not to stall.
func (e *engine) watch(ctx context.Context) (_ context.Context, done context.CancelFunc) {
	if e.o.ImageTimeout <= 0 {
		return ctx, func() {}
	}
	ctx, end := context.WithCancelCause(ctx)
	a := &activity{limit: e.o.ImageTimeout, end: end}
	return context.WithValue(ctx, activityKey{}, a), func() { end(nil) }
}

// heard notes progress of the image that a context is of.
func heard(ctx context.Context) {
	if a, ok := ctx.Value(activityKey{}).(*activity); ok {
		a.last.Store(time.Now().UnixNano())
	}
}

// listening notes what is written to it as progress.
type listening struct{ ctx context.Context }

func (l listening) Write(p []byte) (int, error) {
	heard(l.ctx)
	return len(p), nil
}

// watched makes a call for the image that a context is of.
func watched(ctx context.Context, call func() error) error {
	a, ok := ctx.Value(activityKey{}).(*activity)
	if !ok {
		return call()
	}
	heard(ctx)
	defer heard(ctx)
	over := make(chan struct{})
	defer close(over)
	go a.guard(over)
	return call()
}

// guard ends the image when it is silent for too long, until a call is over.
func (a *activity) guard(over <-chan struct{}) {
	for left := a.limit; left > 0; left = a.limit - time.Since(time.Unix(0, a.last.Load())) {
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-over:
			timer.Stop()
			return
		}
	}
	a.end(&stalledError{a.limit})
}

// stalledError reports an image without progress.
type stalledError struct{ limit time.Duration }

func (e *stalledError) Error() string {
	return fmt.Sprintf("no progress for %s: no byte came, and no answer", e.limit)
}

// stalled returns the error of an image whose context ended since it made no progress, else err.
func stalled(ctx context.Context, err error) error {
	var s *stalledError
	if err == nil || !errors.As(context.Cause(ctx), &s) {
		return err
	}
	return hint.New(s, "run the same command again: what has arrived is kept; --image-timeout waits longer")
}
