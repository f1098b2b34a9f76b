package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"path/filepath"
	"time"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

const (
	readers     = 6
	busyTimeout = 10 * time.Second // our own connections never need it; a backup tool may lock the file for a moment
)

// Schema is the schema of a database.
type Schema struct {
	// Application is in the header of the file, to tell it from other databases.
	Application uint32
	// Migrations are SQL files, one for each version, sorted by name. They are never edited.
	Migrations fs.FS
}

// Version returns the version that a database has after all of them.
func (s Schema) Version() int {
	names, _ := fs.Glob(s.Migrations, "*.sql") // the pattern is a good one
	return len(names)
}

// Options are the options of Open.
type Options struct {
	Path    string // its directory must exist; the file is created 0600
	Schema  Schema
	Current bool         // refuse a database of an older version instead of migrating it: *database.SchemaError
	Log     *slog.Logger // nil: discard

	Changed   func(database.Change) // called before each change of a row; may be nil
	Committed func()                // called after each commit, before the writes are acknowledged; may be nil
}

// DB is an open database. It is safe for concurrent use.
type DB struct {
	path     string
	log      *slog.Logger
	damage   *damage
	writer   *sql.DB
	reader   *sql.DB
	group    *database.Group // what writes through writer
	shrinker *shrinker
	reserve  reserve
	space    diskspace.Checker // of copies of the database
}

// Open opens the database and migrates it. The caller has its Lock. Errors: *database.SchemaError,
// *database.NotDatabaseError, *diskspace.FullError.
func Open(ctx context.Context, o Options) (*DB, error) {
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	db := &DB{path: path, log: o.Log, space: diskspace.Checker{Bytes: diskspace.Bytes}}
	db.reserve = reserve{path: path + ".reserve", log: o.Log, space: db.space}
	db.damage = &damage{path: path, log: o.Log}
	db.removeSnapshots()
	if err := db.Freeing(func() error { return db.open(ctx, o) }); err != nil {
		return nil, err
	}
	db.refill()
	db.group = database.OpenGroup(db.writer)
	db.openShrinker()
	return db, nil
}

// open opens the writer, migrates the database, and opens the readers.
func (db *DB) open(ctx context.Context, o Options) (err error) {
	fresh, err := createFile(db.path, o.Schema.Application)
	if err != nil {
		return err
	}
	// The cache has room for what a large write changes. Without it, pages go to the WAL and come
	// back within one transaction.
	name := dsn(db.path, "cache_size(-16384)")
	if fresh { // the driver sets this before anything is written, when it can still be set
		name += fmt.Sprintf("&_auto_vacuum=%d", autoVacuum)
	}
	db.writer, err = db.damage.connect(name, hooks{o.Changed, o.Committed})
	if err != nil {
		return fmt.Errorf("open database %s: %w", db.path, err)
	}
	db.writer.SetMaxOpenConns(1)
	if err := db.migrate(ctx, o); err != nil {
		return errors.Join(err, db.writer.Close())
	}
	db.reader, err = db.damage.connect(dsn(db.path, "query_only(1)"), hooks{})
	if err != nil {
		return errors.Join(fmt.Errorf("open database %s: %w", db.path, err), db.writer.Close())
	}
	db.reader.SetMaxOpenConns(readers)
	db.reader.SetMaxIdleConns(readers)
	return nil
}

// dsn returns the name of the database with the pragmas of every pooled connection.
func dsn(path string, extra ...string) string {
	query := url.Values{"_pragma": append([]string{
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
		"journal_mode(WAL)",
		"synchronous(FULL)",
		"foreign_keys(1)",
		fmt.Sprintf("journal_size_limit(%d)", walKept),
		fmt.Sprintf("wal_autocheckpoint(%d)", walPages),
	}, extra...)}
	query.Set("_txlock", "immediate")
	return (&url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}).String()
}

// OpenSnapshot opens a copy of a database for reading, and leaves no file beside it.
func OpenSnapshot(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: "mode=ro&immutable=1"}).String())
	if err != nil {
		return nil, fmt.Errorf("open the snapshot of the database: %w", err)
	}
	return db, nil
}

// Close runs the queued writes, gives free pages back for some seconds, and closes the database.
// Reads under way fail.
func (db *DB) Close() error {
	db.shrinker.close()
	db.shrinkAtClose()
	db.group.Close()
	// The writer is last: closing the last connection checkpoints the WAL.
	return errors.Join(db.reader.Close(), db.writer.Close())
}

// Reader returns the connections that read. They cannot write.
func (db *DB) Reader() *sql.DB { return db.reader }

// Hold has the transactions of clients and jobs wait until release is called, and fail when ctx ends
// before. What is read, and the database's own upkeep, does not wait. ctx must end before Close.
func (db *DB) Hold(ctx context.Context) (release func()) { return db.group.Hold(ctx) }

// Share runs fn in a write transaction that it shares with concurrent ones. It is for short writes
// of clients. fn uses its own context, which does not end: an interrupted statement would roll back
// the whole transaction.
func (db *DB) Share(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error {
	return db.group.Share(ctx, fn)
}

// ShareFreeing is Share for a deletion, which works on a full disk too.
func (db *DB) ShareFreeing(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error {
	defer db.Freed()
	return db.Freeing(func() error { return db.Share(ctx, fn) })
}

// Write runs fn in a write transaction of its own, which ends when ctx does. It is for long or rare
// writes.
func (db *DB) Write(ctx context.Context, fn func(tx *sql.Tx) error) error {
	return db.group.Write(ctx, fn)
}

// WriteFreeing is Write for a deletion, which works on a full disk too.
func (db *DB) WriteFreeing(ctx context.Context, fn func(tx *sql.Tx) error) error {
	defer db.Freed()
	return db.Freeing(func() error { return db.Write(ctx, fn) })
}

// Check reports whether the database answers.
func (db *DB) Check(ctx context.Context) error {
	var version int
	if err := db.reader.QueryRowContext(ctx, `SELECT user_version FROM pragma_user_version`).Scan(&version); err != nil {
		return fmt.Errorf("database %s does not answer: %w", db.path, err)
	}
	return nil
}
