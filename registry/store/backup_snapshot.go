package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Snapshot is what a backup is made of: the database as it was at one moment, in a file of its own, and the
// promise that the files of the blobs that it names stay. It takes as much space as the database does.
type Snapshot struct {
	Name  string // of the file, which is beside the database
	store *Store
}

// Snapshot makes one. Collections go on meanwhile, but leave files, until Release. *FullError.
func (s *Store) Snapshot(ctx context.Context) (_ *Snapshot, err error) {
	// Before the snapshot: what it names must still have its file when its turn comes.
	s.guard.Hold.Begin()
	f, err := os.CreateTemp(filepath.Dir(s.database), filepath.Base(s.database)+snapshotInfix+"*")
	if err != nil {
		s.guard.Hold.End()
		return nil, full(s.database, 0, fmt.Errorf("make a snapshot of the database: %w", err))
	}
	defer f.Close()
	made := &Snapshot{Name: filepath.Base(f.Name()), store: s}
	if err := s.snapshot(ctx, f); err != nil {
		return nil, errors.Join(full(s.database, 0, fmt.Errorf("make a snapshot of the database: %w", err)), made.Release())
	}
	return made, nil
}

// Release removes the file, and lets collections remove files again.
func (s *Snapshot) Release() error {
	defer s.store.guard.Hold.End()
	return removeDatabase(filepath.Join(filepath.Dir(s.store.database), s.Name))
}

const snapshotInfix = ".snapshot-"

// snapshot writes the database as it is at one moment to a file, which SQLite finds empty: it would make one
// that all can read.
func (s *Store) snapshot(ctx context.Context, to *os.File) error {
	// A connection of its own: readers may only query, and the writer is not to wait.
	db, err := s.damage.open(dsn(s.database))
	if err != nil {
		return err
	}
	defer db.Close()
	size, err := databaseSize(ctx, db)
	if err != nil {
		return err
	}
	// What pushes leave free is for this too.
	if err := (space{statfs: s.space.statfs}).check(s.database, size); err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, `VACUUM INTO ?`, to.Name())
	return err
}

// removeSnapshots removes those of a process that was killed. It is called with the lock of the store.
func (s *Store) removeSnapshots() {
	left, err := filepath.Glob(globLiteral(s.database) + snapshotInfix + "*")
	for _, path := range left {
		err = errors.Join(err, removeIfThere(path))
	}
	if err != nil { // which costs space, and nothing else
		s.log.Warn("could not remove what a backup has left beside the database", "error", err)
	}
}
