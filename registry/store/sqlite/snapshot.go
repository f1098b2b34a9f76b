package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/durable"
)

// SnapshotInfix follows the path of a database in the name of a snapshot of it.
const SnapshotInfix = ".snapshot-"

// Snapshot writes the database, as it is at one moment, to a file beside it that the caller removes with
// RemoveSnapshot. It takes as much space as the database. *diskspace.FullError.
func (db *DB) Snapshot(ctx context.Context) (path string, err error) {
	// SQLite would create a file that all can read. It takes an empty file for a new one.
	f, err := os.CreateTemp(filepath.Dir(db.path), filepath.Base(db.path)+SnapshotInfix+"*")
	if err == nil {
		path = f.Name()
		if err = errors.Join(f.Close(), db.copyTo(ctx, path)); err == nil {
			return path, nil
		}
		err = errors.Join(err, removeCopy(path))
	}
	return "", diskspace.Full(db.path, 0, fmt.Errorf("make a snapshot of the database: %w", err))
}

func (db *DB) copyTo(ctx context.Context, path string) error {
	// A connection of its own: readers may only query, and the writer is not to wait.
	own, err := db.damage.connect(dsn(db.path), hooks{})
	if err != nil {
		return err
	}
	defer own.Close()
	p, err := readPages(ctx, own)
	if err != nil {
		return err
	}
	if err := db.space.Check(db.path, p.live()); err != nil {
		return err
	}
	_, err = own.ExecContext(ctx, `VACUUM INTO ?`, path)
	return err
}

// RemoveSnapshot removes the snapshot with that name.
func (db *DB) RemoveSnapshot(name string) error {
	return removeCopy(filepath.Join(filepath.Dir(db.path), name))
}

// removeSnapshots removes those of a process that was killed.
func (db *DB) removeSnapshots() {
	left, err := filepath.Glob(globLiteral(db.path) + SnapshotInfix + "*")
	for _, path := range left {
		err = errors.Join(err, durable.IgnoreMissing(os.Remove(path)))
	}
	if err != nil { // which costs space, and nothing else
		db.log.Warn("could not remove what a backup has left beside the database", "error", err)
	}
}

// removeCopy removes a copy, and what SQLite leaves beside one that it could not finish.
func removeCopy(path string) error {
	return errors.Join(durable.IgnoreMissing(os.Remove(path)), durable.IgnoreMissing(os.Remove(path+"-journal")))
}

// globLiteral escapes what filepath.Glob would take for a pattern.
func globLiteral(path string) string {
	var escaped []rune
	for _, r := range path {
		switch r {
		case '*', '?', '[', '\\':
			escaped = append(escaped, '\\')
		}
		escaped = append(escaped, r)
	}
	return string(escaped)
}
