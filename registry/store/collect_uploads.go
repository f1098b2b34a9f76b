package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// StaleUploads yields the upload sessions without a write since before, and their bytes, also those
// that a crash left.
func (s *Garbage) StaleUploads(ctx context.Context, before time.Time, yield func(id string, size int64) error) error {
	ids, err := s.blobs.Uploads(ctx)
	if errors.Is(err, fs.ErrNotExist) { // Open made it
		err = &StorageError{Path: s.blobs.Root()}
	}
	if err != nil {
		return fmt.Errorf("list uploads: %w", err)
	}
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return err
		}
		size, stale, err := s.blobs.OldUpload(ctx, id, before, s.now())
		if err != nil {
			return fmt.Errorf("look at upload %s: %w", id, err)
		}
		if !stale || s.guard.Sessions.InUse(ctx, id) {
			continue
		}
		if s.guard.shared != nil {
			if stale, err := s.guard.shared.Sessions.IsStale(ctx, id, before); err != nil {
				return err
			} else if !stale {
				continue
			}
		}
		if err := yield(id, size); err != nil {
			return err
		}
	}
	stale := s.sessions.staleEmpty(before)
	if s.guard.shared != nil {
		if stale, err = s.guard.shared.Sessions.Stale(ctx, before); err != nil {
			return err
		}
		stale = slices.DeleteFunc(stale, func(id string) bool { return slices.Contains(ids, id) })
	}
	for _, id := range stale {
		if err := yield(id, 0); err != nil {
			return err
		}
	}
	return nil
}

// RemoveUpload removes a session that is still stale and not in use, and returns the bytes that it
// freed.
func (s *Garbage) RemoveUpload(ctx context.Context, before time.Time, id string) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if !blobstore.IsUploadID(id) {
		return 0, &NotFoundError{Kind: "upload", Name: image.Quote(id)}
	}
	if taken, err := s.guard.Sessions.TryTake(ctx, id); err != nil || !taken {
		return 0, err
	}
	ended := false
	defer func() {
		if !ended {
			s.guard.Sessions.Release(id)
		}
	}()
	if s.guard.shared != nil {
		if stale, err := s.guard.shared.Sessions.IsStale(ctx, id, before); err != nil || !stale {
			return 0, err
		}
	}
	if s.sessions.forget(id, before) {
		return 0, nil
	}
	size, stale, err := s.blobs.OldUpload(ctx, id, before, s.now())
	if err != nil {
		return 0, fmt.Errorf("look at upload %s: %w", id, err)
	}
	if !stale || !s.guard.Sessions.Holds(id) {
		return 0, nil
	}
	if err := s.mayGoOn(ctx); err != nil {
		return 0, err
	}
	if err = s.removeUploadFiles(id); err == nil && s.guard.shared != nil {
		s.guard.shared.Sessions.End(id)
		ended = true
	}
	return size, err
}
