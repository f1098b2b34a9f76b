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

// Hint says what to do next.
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
	path  string
	log   *slog.Logger
	first atomic.Pointer[CorruptError]
}

// see makes a *CorruptError of what is one, and leaves other errors alone.
func (d *damage) see(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	lite := databaseDamage(err)
	if lite == nil {
		return err
	}
	return d.found(err)
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
func (d *damage) open(name string) (*sql.DB, error) {
	c, err := sqlite.NewConnector(name)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(&watchedConnector{c, d}), nil
}

type watchedConnector struct {
	driver.Connector
	damage *damage
}

func (c *watchedConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, c.damage.see(err)
	}
	whole, ok := conn.(connection)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the SQLite driver lacks methods: %T", conn), conn.Close())
	}
	return &watchedConn{whole, c.damage}, nil
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
	damage *damage
}

func (c *watchedConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
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

func (c *watchedConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	tx, err := c.connection.BeginTx(ctx, o)
	if err != nil {
		return nil, c.damage.see(err)
	}
	return &watchedTx{tx, c.damage}, nil
}

func (c *watchedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	result, err := c.connection.ExecContext(ctx, query, args)
	return result, c.damage.see(err)
}

func (c *watchedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
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
}

func (t *watchedTx) Commit() error { return t.damage.see(t.Tx.Commit()) }

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
