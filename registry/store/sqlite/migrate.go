package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	modernc "modernc.org/sqlite"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// migrate runs the missing migrations, each in its own transaction, after a copy of the database if
// it has content.
func (db *DB) migrate(ctx context.Context, o Options) error {
	names, err := fs.Glob(o.Schema.Migrations, "*.sql") // which come in order
	if err != nil {
		return err
	}
	have, err := db.version(ctx)
	if err != nil {
		return err
	}
	if have > len(names) {
		return &database.SchemaError{Path: db.path, Have: have, Known: len(names)}
	}
	if have > 0 && have < len(names) {
		if o.Current {
			return &database.SchemaError{Path: db.path, Have: have, Known: len(names)}
		}
		if err := db.copyBeforeMigration(ctx, have); err != nil {
			return diskspace.Full(db.path, 0, fmt.Errorf("back up database %s before migrating it: %w", db.path, err))
		}
	}
	for version := have + 1; version <= len(names); version++ {
		name := names[version-1]
		text, err := fs.ReadFile(o.Schema.Migrations, name)
		if err != nil {
			return err
		}
		if err := db.apply(ctx, version, o.Schema.Application, string(text)); err != nil {
			return fmt.Errorf("migrate database %s to %s: %w", db.path, name, err)
		}
	}
	return nil
}

func (db *DB) apply(ctx context.Context, version int, application uint32, text string) error {
	tx, err := db.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	if _, err := tx.ExecContext(ctx, text); err != nil {
		return err
	}
	// A pragma takes no parameters.
	pragmas := fmt.Sprintf("PRAGMA user_version = %d; PRAGMA application_id = %d", version, application)
	if _, err := tx.ExecContext(ctx, pragmas); err != nil {
		return err
	}
	return tx.Commit()
}

// version returns the schema version.
func (db *DB) version(ctx context.Context) (version int, err error) {
	err = db.writer.QueryRowContext(ctx, `SELECT user_version FROM pragma_user_version`).Scan(&version)
	if err == nil {
		return version, nil
	}
	if errors.As(err, new(*modernc.Error)) && Damage(err) != nil {
		return 0, &database.NotDatabaseError{Path: db.path, Reason: err.Error()}
	}
	return 0, fmt.Errorf("open database %s: %w", db.path, err)
}

func migrationCopy(path string, version int) string {
	return fmt.Sprintf("%s.schema-%d.backup", path, version)
}

// copyBeforeMigration copies the database to a file beside it, durably, and removes the copy of the
// migration before: a real backup is the way back over two versions.
func (db *DB) copyBeforeMigration(ctx context.Context, version int) (err error) {
	older, err := filepath.Glob(globLiteral(db.path) + ".schema-*.backup*")
	if err != nil {
		return err
	}
	to := migrationCopy(db.path, version)
	tmp := to + ".tmp"
	if err := removeCopy(tmp); err != nil {
		return err
	}
	if err := db.checkCopy(ctx); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeCopy(tmp))
		}
	}()
	// SQLite would create a file that all can read. It takes an empty file for a new one.
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = db.writer.ExecContext(ctx, `VACUUM INTO ?`, tmp)
	if err := durable.Finish(f, err); err != nil {
		return err
	}
	if err := os.Rename(tmp, to); err != nil {
		return err
	}
	for _, name := range older {
		if name != to && name != tmp {
			if err := durable.IgnoreMissing(os.Remove(name)); err != nil {
				return err
			}
		}
	}
	return durable.SyncDir(filepath.Dir(db.path))
}

// checkCopy returns a *diskspace.FullError unless there is space for a copy of the database, to the
// last byte: without the copy the registry does not start.
func (db *DB) checkCopy(ctx context.Context) error {
	p, err := readPages(ctx, db.writer)
	if err != nil {
		return err
	}
	free, _, err := db.space.Bytes(db.path)
	if err != nil {
		return err
	}
	if p.live() > free {
		return &diskspace.FullError{Path: db.path, Short: p.live() - free, Err: syscall.ENOSPC}
	}
	return nil
}

// SnapshotInfix follows the path of a database in the name of its snapshot.
const SnapshotInfix = ".snapshot-"

// Snapshot writes the database, as it is at one moment, to a file beside it, until RemoveSnapshot.
// It takes as much space as the database. *diskspace.FullError.
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

// RemoveSnapshot removes the snapshot with a name.
func (db *DB) RemoveSnapshot(name string) error {
	return removeCopy(filepath.Join(filepath.Dir(db.path), name))
}

// removeSnapshots removes those of a killed process.
func (db *DB) removeSnapshots() {
	left, err := filepath.Glob(globLiteral(db.path) + SnapshotInfix + "*")
	for _, path := range left {
		err = errors.Join(err, durable.IgnoreMissing(os.Remove(path)))
	}
	if err != nil { // which costs space, and nothing else
		db.log.Warn("could not remove what a backup has left beside the database", "error", err)
	}
}

// removeCopy removes a copy, and the journal that SQLite leaves beside an unfinished one.
func removeCopy(path string) error {
	return errors.Join(durable.IgnoreMissing(os.Remove(path)), durable.IgnoreMissing(os.Remove(path+"-journal")))
}

// globLiteral escapes the patterns of filepath.Glob.
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
