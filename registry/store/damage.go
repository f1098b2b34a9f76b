package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// CorruptError says that SQLite cannot read or write its own file, and not for want of space.
type CorruptError struct {
	Path string
	Err  error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("database %s is damaged: %v", e.Path, e.Err)
}
func (e *CorruptError) Unwrap() error { return e.Err }

// Hint returns what to do next.
func (e *CorruptError) Hint() string {
	return "`appliance verify` says what is damaged; then stop the daemon, move the database file away and restore a backup (`appliance restore`); mind what dmesg says of the disk"
}

// Damage is a *CorruptError if SQLite has said to anyone since Open that the database is damaged, nil otherwise. It
// stays until the store is opened again, since what is damaged is not read by everyone: a page in the middle fails the
// requests that need it and no others.
func (s *Store) Damage() error {
	if e := s.damage.first.Load(); e != nil {
		return e
	}
	return nil
}

// damage is where whatever SQLite says passes: it remembers the first time that this was damage.
type damage struct {
	cache *recent // what commits tell of; nil: none
	path  string
	log   *slog.Logger
	first atomic.Pointer[CorruptError]
	// suspect says that the disk has failed since the WAL was last checkpointed. The kernel may have dropped what a failed
	// sync was about and report the next one as a success, so nothing is written until the WAL has reached the database.
	suspect  atomic.Bool
	failures atomic.Int64 // counts them
}

// see makes a *CorruptError of what is one, and leaves other errors alone.
func (d *damage) see(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if databaseDamage(err) != nil {
		return d.found(err)
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) && lite.Code()&0xff == sqlite3.SQLITE_IOERR && !needsSpace(lite) {
		d.suspect.Store(true)
		d.failures.Add(1)
		return &DiskError{Path: d.path, Err: err}
	}
	return err
}

// DiskError says that the disk has failed to read, write or sync the database, which says nothing of what is in it. What
// was being written is refused; what was acknowledged before is there.
type DiskError struct {
	Path string
	Err  error
}

func (e *DiskError) Error() string {
	return fmt.Sprintf("the disk of database %s has failed: %v", e.Path, e.Err)
}
func (e *DiskError) Unwrap() error { return e.Err }

// Hint returns what to do next.
func (e *DiskError) Hint() string {
	return "try again; if it goes on, see whether the file system has space (df -h " + e.Path + ") and what dmesg says of the disk; leave the database where it is"
}

// found remembers damage that somebody has found.
func (d *damage) found(err error) error {
	damaged := &CorruptError{Path: d.path, Err: err}
	if d.first.CompareAndSwap(nil, damaged) {
		d.log.Error("the database is damaged", "path", d.path, "error", err, "remedy", damaged.Hint())
	}
	return damaged
}

// needsSpace says of a failure of SQLite to read or write that a disk without space, or a quota that is used up,
// explains it, too.
func needsSpace(err error) bool {
	var lite *sqlite.Error
	if !errors.As(err, &lite) {
		return false
	}
	switch lite.Code() {
	case sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_IN_PAGE, sqlite3.SQLITE_IOERR_NOMEM:
		return true
	}
	return false
}

// open opens a pool whose connections tell d what SQLite tells them. It stands below database/sql, since errors reach
// the callers of that in many ways, such as in the middle of the rows.
func (d *damage) open(name string) (*sql.DB, error) { return d.openFor(name, nil) }

// openFor is open for the writer, whose commits tell the manifest cache what they change.
func (d *damage) openFor(name string, cache *recent) (*sql.DB, error) {
	c, err := sqlite.NewConnector(name)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(&watchedConnector{c, d, cache}), nil
}

type watchedConnector struct {
	driver.Connector
	damage *damage
	cache  *recent // nil: nothing is written
}

func (c *watchedConnector) Connect(ctx context.Context) (driver.Conn, error) {
	generation := c.damage.failures.Load()
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, c.damage.see(err)
	}
	whole, ok := conn.(connection)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the SQLite driver lacks methods: %T", conn), conn.Close())
	}
	if c.cache != nil {
		hooks, ok := conn.(sqlite.HookRegisterer)
		if !ok {
			return nil, errors.Join(fmt.Errorf("the SQLite driver lacks hooks: %T", conn), conn.Close())
		}
		hooks.RegisterPreUpdateHook(c.cache.note)
	}
	return &watchedConn{connection: whole, damage: c.damage, generation: generation, cache: c.cache}, nil
}

// connection is what a connection of SQLite's driver can.
type connection interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ConnBeginTx
	driver.ExecerContext
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
}

type watchedConn struct {
	connection
	damage     *damage
	generation int64 // of damage.failures when it was opened
	cache      *recent
	known      statements
}

func (c *watchedConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	return c.prepare(ctx, query)
}

func (c *watchedConn) prepare(ctx context.Context, query string) (*watchedStmt, error) {
	stmt, err := c.connection.PrepareContext(ctx, query)
	if err != nil {
		return nil, c.damage.see(err)
	}
	whole, ok := stmt.(statement)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the SQLite driver lacks methods: %T", stmt), stmt.Close())
	}
	return &watchedStmt{whole, c.damage}, nil
}

// IsValid makes database/sql close a connection after the disk has failed, and open another.
func (c *watchedConn) IsValid() bool {
	return c.generation == c.damage.failures.Load() && c.connection.IsValid()
}

// trust reports, once after the disk has failed, whether the WAL reaches the database.
func (c *watchedConn) trust(ctx context.Context) error {
	if !c.damage.suspect.Load() {
		return nil
	}
	rows, err := c.QueryContext(ctx, `PRAGMA wal_checkpoint(PASSIVE)`, nil)
	if err != nil {
		return err
	}
	err = rows.Next(make([]driver.Value, len(rows.Columns())))
	if err = errors.Join(err, rows.Close()); err == nil {
		c.damage.suspect.Store(false)
	}
	return err
}

func (c *watchedConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	if !o.ReadOnly {
		if err := c.trust(ctx); err != nil {
			return nil, err
		}
	}
	tx, err := c.connection.BeginTx(ctx, o)
	if err != nil {
		return nil, c.damage.see(err)
	}
	return &watchedTx{tx, c.damage, c.cache}, nil
}

func (c *watchedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if known, err := c.known.take(ctx, c, query); known != nil || err != nil {
		if err != nil {
			return nil, err
		}
		defer known.release()
		return known.ExecContext(ctx, args)
	}
	result, err := c.connection.ExecContext(ctx, query, args)
	return result, c.damage.see(err)
}

func (c *watchedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if known, err := c.known.take(ctx, c, query); known != nil || err != nil {
		if err != nil {
			return nil, err
		}
		rows, err := known.QueryContext(ctx, args)
		if err != nil {
			known.release()
			return nil, err
		}
		return &knownRows{rows, known}, nil
	}
	return c.damage.rows(c.connection.QueryContext(ctx, query, args))
}

// statement is what a statement of SQLite's driver can.
type statement interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type watchedStmt struct {
	statement
	damage *damage
}

func (s *watchedStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	result, err := s.statement.ExecContext(ctx, args)
	return result, s.damage.see(err)
}

func (s *watchedStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.damage.rows(s.statement.QueryContext(ctx, args))
}

type watchedTx struct {
	driver.Tx
	damage *damage
	cache  *recent
}

// Commit lets the manifest cache forget what the transaction changed before anyone is told that it is committed.
func (t *watchedTx) Commit() error {
	err := t.Tx.Commit()
	if t.cache != nil {
		t.cache.forget()
	}
	return t.damage.see(err)
}

func (d *damage) rows(rows driver.Rows, err error) (driver.Rows, error) {
	if err != nil {
		return nil, d.see(err)
	}
	return &watchedRows{rows, d}, nil
}

type watchedRows struct {
	driver.Rows
	damage *damage
}

func (r *watchedRows) Next(to []driver.Value) error { return r.damage.see(r.Rows.Next(to)) }
