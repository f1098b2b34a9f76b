package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
)

// checkStorage returns a *LostStorageError when blobs exist and no directory for them: a disk that is not mounted must not
// look like a registry that has lost everything.
func (s *Store) checkStorage(ctx context.Context, root string) error {
	for _, a := range blobfile.Algorithms() {
		dir, missing := blobfile.Missing(root, a)
		if !missing {
			continue
		}
		held, err := exists(ctx, s.reader, `SELECT 1 FROM blobs WHERE digest >= ?1 || ':' AND digest < ?1 || ';'`, a.String())
		if err != nil {
			return fmt.Errorf("look for blobs: %w", err)
		}
		if held {
			return &LostStorageError{Path: dir}
		}
	}
	return nil
}

// checkDatabase returns a *LostDatabaseError when there are blobs and no database. Were one made, collection would
// remove all of them as what a crash has left.
func checkDatabase(database, storage string) error {
	if info, err := os.Stat(database); err == nil && info.Size() > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil // whatever is wrong with it, opening it reports
	}
	blobs, err := blobfile.HasBlobs(storage)
	if err != nil {
		return fmt.Errorf("look for blobs: %w", err)
	}
	if blobs {
		return &LostDatabaseError{Path: database, Storage: storage}
	}
	return nil
}

// lock takes the exclusive lock of a database. A crash leaves nothing to clean up; the file stays, since
// removing it would let two processes lock two files.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the store: %w", err)
	}
	err = durable.Lock(f, durable.Exclusive)
	if errors.Is(err, durable.ErrLocked) {
		return nil, errors.Join(&LockedError{Path: path}, f.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the store: %w", err), f.Close())
	}
	return f, nil
}

func removeIfThere(path string) error { return unlessMissing(os.Remove(path)) }

// unlessMissing is the error of a removal, and nil where there was nothing to remove.
func unlessMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
