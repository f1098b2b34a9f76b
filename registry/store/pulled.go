package store

import (
	"context"
	"database/sql"
	"fmt"
	"os"
)

// What pull-through needs and a push may not have: a manifest before its
// layers, and the bytes of a blob before they are all there.

// PutPulledManifest puts a manifest of an upstream into repo and moves tags to
// it, as PutManifest does, but asks for none of its config and layers: a client
// that pulls through reads the manifest first and the layers afterwards, or
// never. Until then they are not found, and pull-through fetches them. What came
// in no other way may be evicted again, see EvictPulled. Errors:
// *InvalidError, *DigestError, *FullError.
func (s *Store) PutPulledManifest(ctx context.Context, repo string, body []byte, o PutOptions) (Manifest, error) {
	return s.putManifest(ctx, repo, body, o, byPull, func(context.Context, *sql.Tx, parsed) error { return nil })
}

// Open opens what has been written for reading, and what is written later can
// be read from the same file. It stays readable after Commit and Cancel. Nothing
// has been verified before Commit has returned.
func (u *Upload) Open() (*os.File, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.file == nil {
		return nil, fmt.Errorf("read upload %s: %w", u.id, os.ErrClosed)
	}
	f, err := os.Open(u.store.files.upload(u.id))
	if err != nil {
		return nil, fmt.Errorf("read upload %s: %w", u.id, err)
	}
	return f, nil
}
