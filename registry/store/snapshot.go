package store

import (
	"context"
	"path/filepath"
)

// Snapshot is what a backup is made of: the database as it was at one moment, in a file of its own, and the
// promise that the files of the blobs that it names stay. It takes as much space as the database does.
type Snapshot struct {
	Name  string // of the file, which is beside the database
	store *core
}

// Snapshot makes one. Collections go on meanwhile, but leave files, until Release. *FullError.
func (s *Store) Snapshot(ctx context.Context) (*Snapshot, error) {
	// Before the snapshot: what it names must still have its file when its turn comes.
	s.guard.Hold.Begin()
	path, err := s.db.Snapshot(ctx)
	if err != nil {
		s.guard.Hold.End()
		return nil, err
	}
	return &Snapshot{Name: filepath.Base(path), store: s.core}, nil
}

// Release removes the file, and lets collections remove files again.
func (s *Snapshot) Release() error {
	defer s.store.guard.Hold.End()
	return s.store.db.RemoveSnapshot(s.Name)
}
