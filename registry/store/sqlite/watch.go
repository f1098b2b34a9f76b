package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"

	modernc "modernc.org/sqlite"
	code "modernc.org/sqlite/lib"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Damage returns a *database.CorruptError if the database was found damaged since Open, and nil
// otherwise. A damaged page fails the requests that need it, and no others.
func (db *DB) Damage() error {
	if e := db.damage.first.Load(); e != nil {
		return e
	}
	return nil
}

// Damaged records damage that a reader of rows finds and SQLite does not, and returns it as a
// *CorruptError.
func (db *DB) Damaged(err error) error {
	return db.damage.found(&database.CorruptError{Path: db.path, Err: err})
}

// damage sees every error of SQLite, and records the first that is damage.
type damage struct {
	path  string
	log   *slog.Logger
	first atomic.Pointer[database.CorruptError]
	// suspect means that the disk has failed since the last checkpoint. The kernel may have dropped
	// the bytes of a failed sync and report the next one as a success, so no write runs until the
	// WAL has reached the database.
	suspect  atomic.Bool
	failures atomic.Int64 // counts them
}

// see records an error of SQLite and returns it as one of this package.
func (d *damage) see(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	err = typed(d.path, err)
	switch e := err.(type) {
	case *database.CorruptError:
		return d.found(e)
	case *database.DiskError:
		d.suspect.Store(true)
		d.failures.Add(1)
	}
	return err
}

func (d *damage) found(e *database.CorruptError) error {
	if d.first.CompareAndSwap(nil, e) {
		d.log.Error("the database is damaged", "path", d.path, "error", e.Err, "remedy", e.Hint())
	}
	return e
}

// hooks are called by the transactions of the writer.
type hooks struct {
	changed   func(database.Change)
	committed func()
}

// change is called by SQLite for each row that changes, before the commit.
func (h hooks) change(row modernc.SQLitePreUpdateData) {
	if row.DatabaseName != "main" { // VACUUM copies to another
		return
	}
	op := database.Insert
	switch row.Op {
	case code.SQLITE_UPDATE:
		op = database.Update
	case code.SQLITE_DELETE:
		op = database.Delete
	}
	h.changed(database.Change{Table: row.TableName, Op: op, Columns: &row})
}

// connect opens a pool of connections whose errors d sees. It is below database/sql, which returns
// errors in many ways, such as between two rows.
func (d *damage) connect(name string, h hooks) (*sql.DB, error) {
	c, err := modernc.NewConnector(name)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(&watchedConnector{c, d, h}), nil
}

type watchedConnector struct {
	driver.Connector
	damage *damage
	hooks  hooks
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
	if c.hooks.changed != nil {
		whole.RegisterPreUpdateHook(c.hooks.change)
	}
	return &watchedConn{connection: whole, damage: c.damage, generation: generation,
		committed: c.hooks.committed, parsed: statements{}}, nil
}

// connection has the methods of a connection of SQLite's driver.
type connection interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ConnBeginTx
	driver.ExecerContext
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
	modernc.HookRegisterer
}

type watchedConn struct {
	connection
	damage     *damage
	generation int64 // of damage.failures when it was opened
	committed  func()
	parsed     statements
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

// trust checks, once after the disk has failed, that the WAL reaches the database.
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
	return &watchedTx{tx, c.damage, c.committed}, nil
}

func (c *watchedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if kept, err := c.parsed.take(ctx, c, query); kept != nil || err != nil {
		if err != nil {
			return nil, err
		}
		defer kept.release()
		return kept.ExecContext(ctx, args)
	}
	result, err := c.connection.ExecContext(ctx, query, args)
	return result, c.damage.see(err)
}

func (c *watchedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if kept, err := c.parsed.take(ctx, c, query); kept != nil || err != nil {
		if err != nil {
			return nil, err
		}
		rows, err := kept.QueryContext(ctx, args)
		if err != nil {
			kept.release()
			return nil, err
		}
		return &keptRows{rows, kept}, nil
	}
	return c.damage.rows(c.connection.QueryContext(ctx, query, args))
}

// Close closes the statements before the connection, as SQLite requires.
func (c *watchedConn) Close() error { return errors.Join(c.parsed.close(), c.connection.Close()) }

// statement has the methods of a statement of SQLite's driver.
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
	damage    *damage
	committed func()
}

// Commit calls the hook before any write of the transaction is acknowledged.
func (t *watchedTx) Commit() error {
	err := t.Tx.Commit()
	if t.committed != nil {
		t.committed()
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

// keptStatements is how many parsed statements a connection keeps. The store has about as many.
const keptStatements = 256

// statements are the parsed statements of a connection: to parse one costs as much as to run it.
type statements map[string]*keptStmt

type keptStmt struct {
	*watchedStmt
	busy bool // its rows are being read
}

func (k *keptStmt) release() { k.busy = false }

// take returns the statement of a text, and nil for one that is not worth keeping or that is being
// read from. The caller releases it.
func (s statements) take(ctx context.Context, c *watchedConn, text string) (*keptStmt, error) {
	if k := s[text]; k != nil {
		if k.busy {
			return nil, nil
		}
		k.busy = true
		return k, nil
	}
	if !keepsParsed(text) {
		return nil, nil
	}
	stmt, err := c.prepare(ctx, text)
	if err != nil {
		return nil, err
	}
	if len(s) >= keptStatements {
		if err := s.close(); err != nil {
			return nil, errors.Join(err, stmt.Close())
		}
	}
	k := &keptStmt{watchedStmt: stmt, busy: true}
	s[text] = k
	return k, nil
}

// keepsParsed reports whether a text is a single statement of a kind that comes again.
func keepsParsed(text string) bool {
	verb, _, _ := strings.Cut(strings.TrimLeft(text, " \t\n"), " ")
	switch verb {
	case "SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "SAVEPOINT", "RELEASE":
		return !strings.Contains(text, ";")
	}
	return false
}

// close closes all but those that are being read from.
func (s statements) close() error {
	var errs []error
	for text, k := range s {
		if !k.busy {
			errs = append(errs, k.Close())
			delete(s, text)
		}
	}
	return errors.Join(errs...)
}

// keptRows are rows of a kept statement.
type keptRows struct {
	driver.Rows
	kept *keptStmt
}

func (r *keptRows) Close() error {
	err := r.Rows.Close()
	r.kept.release()
	return err
}
