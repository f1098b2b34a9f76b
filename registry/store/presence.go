package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// checkStorage returns a *lostStorageError when blobs exist and no directory for them: a disk that is not mounted must not
// look like a registry that has lost everything.
func (s *core) checkStorage(ctx context.Context, root string) error {
	for _, a := range blobfile.Algorithms() {
		dir, missing := blobfile.Missing(root, a)
		if !missing {
			continue
		}
		held, err := sqlite.Exists(ctx, s.db.Reader(), `SELECT 1 FROM blobs WHERE digest >= ?1 || ':' AND digest < ?1 || ';'`, a.String())
		if err != nil {
			return fmt.Errorf("look for blobs: %w", err)
		}
		if held {
			return &lostStorageError{Path: dir}
		}
	}
	return nil
}

// checkDatabase returns a *lostDatabaseError when there are blobs and no database. Were one made, collection would
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
		return &lostDatabaseError{Path: database, Storage: storage}
	}
	return nil
}
