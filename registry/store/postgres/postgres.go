package postgres

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

const readers = 6

// Watched is a table whose changes the store is told.
type Watched struct {
	Table   string
	Columns []string // of a change; none: that there was one
	Ops     []database.Op
}

// Options are the options of Open.
type Options struct {
	Address    string // see pgurl
	Migrations fs.FS  // SQL files, one for each version that all engines have, sorted by name
	Own        fs.FS  // likewise, for the versions that this engine alone has; nil: none
	Watched    []Watched
	Current    bool            // refuse a database of an older version instead of migrating it: *database.SchemaError
	Fresh      func() error    // called before the first table is made; an error stops
	Starting   context.Context // while it lasts, for a minute at most, a server that does not answer yet is waited for; nil: it is not
	Log        *slog.Logger    // nil: discard
	Rehearse   bool            // run each transaction twice, as after a conflict: for tests of what writes
	Several    bool            // other processes may have the database open too, and write each in its turn: see Member

	// Use is called before the first write at a server. While it returns an error, nothing is written there. nil: it is not.
	Use func(context.Context, database.Server) error

	// Waiting is called while Starting lasts, as that of the store: with the name of the database and the error of the
	// last attempt, and with neither when one succeeded. nil: it is not.
	Waiting func(name string, err error)

	Changed   func(database.Change) // called after each change of a row, before the write is acknowledged; a table "" means that any may have changed
	Committed func()                // called after that

	// Topic returns the topic of a change of which other daemons are told, a word, or "". Told is called
	// with the topics of changes of any daemon, or with nil when anything may have changed: soon, and at
	// the latest after some seconds. nil: they are not told.
	Topic  func(database.Change) string
	Told   func(topics []string)
	look   time.Duration // lookEvery, in tests
	keep   time.Duration // keepEvery, in tests
	silent time.Duration // silentAfter, in tests
	probe  time.Duration // probeTime, in tests
}

// DB is an open database. It is safe for concurrent use.
type DB struct {
	*database.Group
	server *server
	writer *sql.DB
	reader *sql.DB
	size   atomic.Int64 // as Bytes last saw it
	own    *pgx.ConnConfig
	lease  lease
	marks  *sql.DB // of several daemons

	listener listener
	keeper   keeper
}

// server is what connections to one database share.
type server struct {
	statements
	watch     *watch
	primaries *primaries
	direct    bool   // TLS begins without a request
	name      string // of the database, without a password
	log       *slog.Logger
	damage    atomic.Pointer[database.CorruptError]
	began     time.Time // of this process, for its clock
	member    atomic.Pointer[member]
	writes    atomic.Pointer[database.Server] // where the last connection that writes is
	ended     chan struct{}                   // has a token when the lease may have ended
	lock      sync.Mutex                      // guards what follows
	owner     string                          // what the row of the owner has since this process took the database
	failed    time.Time                       // when the writer could not connect
	failure   error
	notes     []database.Change // of the transaction under way
	warning   *pgconn.Notice    // the last one of the connection that writes
	options   Options
	joined    bool // several daemons may have the database, and it is of this version
	rehearse  bool // Options.Rehearse, once the database is open
	again     bool // the transaction under way is a rehearsed one
}

// Open takes the database, migrates it and returns it. Errors: *database.LockedError,
// *database.SchemaError, *database.NotDatabaseError, *database.UnavailableError.
func Open(ctx context.Context, o Options) (_ *DB, err error) {
	writing, err := parse(o.Address)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := newServer(writing, o)
	configure(writing)
	if o.Several {
		configureSeveral(writing)
	}
	reading := writing.Copy()
	reading.RuntimeParams["default_transaction_read_only"] = "on"
	reading.RuntimeParams["client_min_messages"] = "warning"
	writing.OnNotice = s.notice
	db := &DB{server: s, own: writing.Copy(), writer: sql.OpenDB(s.connector(writing, true)), reader: sql.OpenDB(s.connector(reading, false))}
	db.own.OnNotice = nil
	db.writer.SetMaxOpenConns(1)
	db.reader.SetMaxOpenConns(readers)
	db.reader.SetMaxIdleConns(readers)
	if !o.Several {
		db.renew(db.reader, reading)
	}
	err = db.prepare(ctx, o)
	if err == nil && o.Several {
		err = db.join(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, db.closeAll())
	}
	s.rehearse = o.Rehearse
	db.Group = database.OpenGroup(db.writer)
	db.Group.Conflict = conflict
	if !o.Several {
		db.keep(cmp.Or(o.keep, keepEvery))
	}
	if o.Several && o.Told != nil {
		db.listen()
	}
	return db, nil
}

func newServer(c *pgx.ConnConfig, o Options) *server {
	w := &watch{silent: cmp.Or(o.silent, silentAfter), probe: cmp.Or(o.probe, probeTime), log: o.Log}
	return &server{watch: w, primaries: &primaries{log: o.Log}, direct: c.SSLNegotiation == "direct", name: nameOf(c), log: o.Log, options: o, began: time.Now(), ended: make(chan struct{}, 1)}
}

// prepare waits for the server, and makes the database that of this version.
func (db *DB) prepare(ctx context.Context, o Options) error {
	if err := db.await(ctx, o); err != nil {
		return err
	}
	if err := db.check(ctx); err != nil {
		return err
	}
	return db.migrate(ctx, o)
}

// await connects, and waits for the server.
func (db *DB) await(ctx context.Context, o Options) error {
	waits := func(name string, err error) {
		if o.Waiting != nil {
			o.Waiting(name, err)
		}
	}
	waits(db.server.name, nil)
	err := retry.Await(ctx, o.Starting, db.writer.PingContext, func(err error) bool {
		var unavailable *database.UnavailableError
		if !errors.As(err, &unavailable) || lasting(err) {
			return false
		}
		db.server.log.Warn("waiting for the database", "database", db.server.name, "error", unavailable.Err, "hint", unavailable.Next)
		waits(db.server.name, err)
		return true
	})
	if err == nil {
		waits("", nil)
	}
	return err
}

// closeAll closes the connections.
func (db *DB) closeAll() error {
	db.stopKeeping()
	db.stopListening()
	db.stopRenewing()
	errs := []error{db.reader.Close(), db.writer.Close()}
	if db.lease.rows != nil {
		errs = append(errs, db.lease.rows.Close(), db.marks.Close())
	}
	return errors.Join(errs...)
}

// check refuses a database that orders texts otherwise than by their bytes, or would lose what was
// acknowledged.
func (db *DB) check(ctx context.Context) error {
	var version int
	var encoding, collation, sync string
	err := db.writer.QueryRowContext(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),
		(SELECT datcollate FROM pg_database WHERE datname = current_database()), current_setting('fsync')`).
		Scan(&version, &encoding, &collation, &sync)
	switch {
	case err != nil:
		return err
	case version < 130000:
		return &settingError{fmt.Sprintf("the server of the database %s is older than PostgreSQL 13", db.server.name), "upgrade PostgreSQL"}
	case encoding != "UTF8" || collation != "C" && collation != "POSIX":
		return &settingError{fmt.Sprintf("the database %s has the encoding %s and the collation %s: UTF8 and C are needed, so that names are ordered by their bytes",
			db.server.name, encoding, collation), createHint}
	case sync != "on":
		return &settingError{fmt.Sprintf("the server of the database %s has fsync = %s: a power cut would take what was acknowledged", db.server.name, sync),
			"set fsync = on in postgresql.conf, and restart PostgreSQL"}
	}
	return nil
}

// Close runs the queued writes and closes the database. Reads under way fail.
func (db *DB) Close() error {
	db.Group.Close()
	return db.closeAll()
}

// Name returns the address of the database without its password.
func (db *DB) Name() string { return db.server.name }

// Reader returns the connections that read. They cannot write.
func (db *DB) Reader() *sql.DB { return db.reader }

// ShareFreeing is Share: nothing here depends on free space of this host.
func (db *DB) ShareFreeing(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error {
	return db.Share(ctx, fn)
}

// WriteFreeing is Write, as ShareFreeing is Share.
func (db *DB) WriteFreeing(ctx context.Context, fn func(tx *sql.Tx) error) error {
	return db.Write(ctx, fn)
}

// Freeing runs a deletion.
func (db *DB) Freeing(do func() error) error { return do() }

// Freed does nothing: PostgreSQL's autovacuum finds deleted rows.
func (db *DB) Freed() {}
