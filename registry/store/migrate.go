package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/mirror-appliance/appliance/internal/durable"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate runs the migrations that the database has not seen, each in its own transaction. Of one that has
// something in it, it makes a backup first. If only a current one is wanted, it fails with an *OlderError instead.
func migrate(ctx context.Context, db *sql.DB, path string, current bool) error {
	files, err := migrations.ReadDir("migrations")
	if err != nil {
		return err
	}
	sort.Slice(files, func(i, j int) bool { return files[i].Name() < files[j].Name() })
	have, err := schemaVersion(ctx, db, path)
	if err != nil {
		return err
	}
	if have > len(files) {
		return &NewerError{Path: path, Have: have, Known: len(files)}
	}
	if have > 0 && have < len(files) && current {
		return &OlderError{Path: path, Have: have, Known: len(files)}
	}
	if have > 0 && have < len(files) {
		if err := backupBeforeMigration(ctx, db, path, have); err != nil {
			return full(path, 0, fmt.Errorf("back up database %s before migrating it: %w", path, err))
		}
	}
	for version := have + 1; version <= len(files); version++ {
		name := files[version-1].Name()
		text, err := migrations.ReadFile("migrations/" + name)
		if err != nil {
			return err
		}
		if err := applyMigration(ctx, db, version, string(text)); err != nil {
			return full(path, 0, fmt.Errorf("migrate database %s to %s: %w", path, name, err))
		}
	}
	return nil
}

// migrationBackup is where the database is kept as it was with a schema version.
func migrationBackup(path string, version int) string {
	return fmt.Sprintf("%s.schema-%d.backup", path, version)
}

// backupBeforeMigration copies the database as it is now to a file beside it, durably and as a whole or not
// at all. That of the migration before goes: going back two versions is what real backups are for.
func backupBeforeMigration(ctx context.Context, db *sql.DB, path string, version int) (err error) {
	older, err := filepath.Glob(globLiteral(path) + ".schema-*.backup*")
	if err != nil {
		return err
	}
	to := migrationBackup(path, version)
	tmp := to + ".tmp"
	if err := removeDatabase(tmp); err != nil {
		return err
	}
	if err := checkCopy(ctx, db, path); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeDatabase(tmp))
		}
	}()
	// Made here, since SQLite would make it readable for all. It takes an empty file for a new one.
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := db.ExecContext(ctx, `VACUUM INTO ?`, tmp); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(tmp, to); err != nil {
		return err
	}
	for _, name := range older {
		if name != to && name != tmp {
			if err := removeIfThere(name); err != nil {
				return err
			}
		}
	}
	return durable.SyncDir(filepath.Dir(path))
}

// checkCopy fails with a *FullError unless there is space for another copy of the database, to the last byte: without
// it the registry does not start.
func checkCopy(ctx context.Context, db *sql.DB, path string) error {
	size, err := databaseSize(ctx, db)
	if err != nil {
		return err
	}
	free, _, err := statfs(path)
	if err != nil {
		return fmt.Errorf("look at the free space of %s: %w", path, err)
	}
	if size > free {
		return &FullError{Path: path, Short: size - free, Err: syscall.ENOSPC}
	}
	return nil
}

// databaseSize is how large a copy of the database is, which has no free pages.
func databaseSize(ctx context.Context, db *sql.DB) (int64, error) {
	p, err := readPages(ctx, db)
	return (p.total - p.free) * p.size, err
}

// removeDatabase removes a copy, and what SQLite leaves beside one that it could not finish.
func removeDatabase(path string) error {
	return errors.Join(removeIfThere(path), removeIfThere(path+"-journal"))
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

func applyMigration(ctx context.Context, db *sql.DB, version int, text string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	if _, err := tx.ExecContext(ctx, text); err != nil {
		return err
	}
	// A pragma takes no parameters; both numbers are ours.
	pragmas := fmt.Sprintf("PRAGMA user_version = %d; PRAGMA application_id = %d", version, applicationID)
	if _, err := tx.ExecContext(ctx, pragmas); err != nil {
		return err
	}
	return tx.Commit()
}

// schemaVersion reads how far the database has been migrated.
func schemaVersion(ctx context.Context, db *sql.DB, path string) (int, error) {
	var version int
	err := db.QueryRowContext(ctx, `SELECT user_version FROM pragma_user_version`).Scan(&version)
	if err == nil {
		return version, nil
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) && (lite.Code()&0xff == sqlite3.SQLITE_NOTADB || lite.Code()&0xff == sqlite3.SQLITE_CORRUPT) {
		return 0, &NotDatabaseError{Path: path, Why: err.Error()}
	}
	return 0, fmt.Errorf("open database %s: %w", path, err)
}
