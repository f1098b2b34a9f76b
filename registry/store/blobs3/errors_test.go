package blobs3

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// A request that has taken its time is made again, and in the end the storage is not available.
func TestWithin(t *testing.T) {
	s := &Storage{silence: time.Hour}
	tried := 0
	hangs := func(ctx context.Context) error { tried++; <-ctx.Done(); return ctx.Err() }
	err := s.within(t.Context(), "look", time.Millisecond, nil, hangs)
	if tried != tries().Attempts || !errors.Is(err, blobstore.ErrUnavailable) || blobstore.IsLoss(err) || hint.Of(err) == "" {
		t.Errorf("tried %d times: %v, hint %q", tried, err, hint.Of(err))
	}
	tried = 0
	if err := s.within(blobstore.Once(t.Context()), "remove", time.Millisecond, nil, hangs); tried != 1 || !errors.Is(err, blobstore.ErrUnavailable) {
		t.Errorf("tried %d times: %v", tried, err)
	}
}
