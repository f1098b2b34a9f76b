package postgres

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/stdlib"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

const (
	connectTimeout = 10 * time.Second
	// lockTimeout is how long the lock of the database is waited for: the server may not have seen
	// yet that the connection which had it is gone.
	lockTimeout = 5 * time.Second
	// failFor is how long a failure to connect answers the writes that come after it, so that each
	// need not wait for its own.
	failFor = time.Second
	// deadAfter is the time without an answer after which a connection counts as lost.
	deadAfter = 30 * time.Second
)

// configure sets what the store needs of each connection.
func configure(c *pgx.ConnConfig) {
	params := c.RuntimeParams
	params["application_name"] = nameHere()
	params["join_collapse_limit"] = "1" // joins have the order that they are written in, as SQLite's CROSS JOIN
	params["jit"] = "off"               // which takes longer than the statements
	params["client_min_messages"] = "notice"
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: deadAfter / 2, Interval: 5 * time.Second, Count: 3}, Control: userTimeout}
	c.DialFunc = dialer.DialContext
	// A statement whose context ends is cancelled; its connection lives.
	c.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: deadAfter}
	}
}

// onHost is what the name of a connection begins with, before the name of its host.
const onHost = "appliance on "

// nameHere is the name of a connection in pg_stat_activity.
func nameHere() string { return onHost + processHere() }

// processHere names this process among those of all hosts: one host may have several daemons.
func processHere() string {
	host, err := os.Hostname()
	if err != nil {
		host = "an unknown host"
	}
	return fmt.Sprintf("%s (process %d)", host, os.Getpid())
}

// holders returns the hosts of the connections that have an advisory lock of two keys, which are given
// as SQL.
func holders(ctx context.Context, conn *pgx.Conn, key, second string, args ...any) (hosts string, err error) {
	err = conn.QueryRow(ctx, `SELECT coalesce(string_agg(host, ', '), '') FROM (`+holding(key, second)+`) of`, args...).Scan(&hosts)
	return hosts, err
}

// holding returns a query with a row for each of them.
func holding(key, second string) string {
	return `SELECT DISTINCT substr(a.application_name, length('` + onHost + `') + 1) AS host
		FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
		WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.objsubid = 2
			AND l.classid::bigint = (` + key + `)::bigint & 4294967295 AND l.objid::bigint = (` + second + `)::bigint & 4294967295
			AND a.application_name LIKE '` + onHost + `%' ORDER BY host`
}

// userTimeout ends a connection whose bytes are not acknowledged; the kernel would try for 15
// minutes.
func userTimeout(network, _ string, c syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	var err error
	control := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadAfter.Milliseconds()))
	})
	return errors.Join(control, err)
}

// connector opens connections whose errors are those of this package. It is below database/sql,
// which returns errors in many ways, such as between two rows.
func (s *server) connector(c *pgx.ConnConfig, writes bool) driver.Connector {
	return &connector{c, s, writes}
}

type connector struct {
	config *pgx.ConnConfig
	server *server
	writes bool
}

// Driver returns the driver of its connections.
func (c *connector) Driver() driver.Driver { return stdlib.GetDefaultDriver() }

func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	if c.writes {
		return c.server.connectWriter(ctx, c)
	}
	return c.open(ctx)
}

func (c *connector) open(ctx context.Context) (*conn, error) {
	s := c.server
	connect := func(ctx context.Context, host *pgx.ConnConfig) (driver.Conn, error) {
		return stdlib.GetConnector(*host, stdlib.OptionBeforeConnect(refresh(s.options.Address))).Connect(ctx)
	}
	of, err := s.watch.connect(ctx, func(ctx context.Context) (driver.Conn, error) {
		return newest(ctx, s.primaries, c.config, connect, func(of driver.Conn) *pgconn.PgConn { return of.(*stdlib.Conn).Conn().PgConn() })
	})
	if err != nil {
		return nil, s.typed(ctx, err)
	}
	opened := &conn{Conn: of.(*stdlib.Conn), server: s}
	s.watch.add(opened)
	s.watch.leave(s.primaries)
	return opened, nil
}

// connectWriter connects, and takes the database for this process.
func (s *server) connectWriter(ctx context.Context, c *connector) (driver.Conn, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.failure != nil && time.Since(s.failed) < failFor {
		return nil, s.failure
	}
	opened, err := c.open(ctx)
	if err == nil {
		if err = s.take(ctx, opened); err == nil {
			err = s.use(ctx, opened)
		}
		if err != nil {
			err = errors.Join(s.typed(ctx, err), opened.Close())
		}
	}
	s.failure, s.failed = err, time.Now()
	if err != nil {
		return nil, err
	}
	// The fate of a commit during which the last connection was lost is known only now.
	s.everythingChanged()
	return opened, nil
}

// everythingChanged tells the store so.
func (s *server) everythingChanged() {
	s.notes = nil
	if s.options.Changed != nil {
		s.options.Changed(database.Change{Op: database.Update})
		s.options.Committed()
	}
}

// take locks the database for as long as the connection lasts, and refuses one that another process
// has or had since this one took it.
func (s *server) take(ctx context.Context, c *conn) error {
	c.asks()
	defer c.answered()
	conn := c.Conn.Conn()
	var sync string
	if err := conn.QueryRow(ctx, `SELECT current_setting('synchronous_commit')`).Scan(&sync); err != nil {
		return err
	}
	if sync == "off" {
		if _, err := conn.Exec(ctx, `SET synchronous_commit = on`); err != nil {
			return err
		}
	}
	if s.options.Several {
		return s.takeShared(ctx, conn)
	}
	if err := s.lockBy(ctx, conn, "pg_advisory_lock"); err != nil {
		return err
	}
	return s.own(ctx, conn)
}

const (
	lockKey = 0x6d697272 // "mirr"

	makeSchema = `CREATE TABLE IF NOT EXISTS appliance_schema (one integer PRIMARY KEY CHECK (one = 1), version integer NOT NULL, owner text NOT NULL);
		ALTER TABLE appliance_schema ADD COLUMN IF NOT EXISTS own integer NOT NULL DEFAULT 0, ADD COLUMN IF NOT EXISTS made text NOT NULL DEFAULT '';`
)

// own writes the owner at the first connection, and compares it later.
func (s *server) own(ctx context.Context, conn *pgx.Conn) error {
	if s.owner == "" {
		if err := s.checkForeign(ctx, conn); err != nil {
			return err
		}
		owner := rand.Text()
		if _, err := conn.Exec(ctx, makeSchema, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, `INSERT INTO appliance_schema (one, version, owner) VALUES (1, 0, $1)
			ON CONFLICT (one) DO UPDATE SET owner = excluded.owner`, owner)
		if err == nil {
			s.owner = owner
		}
		return err
	}
	var owner string
	if err := conn.QueryRow(ctx, `SELECT owner FROM appliance_schema`).Scan(&owner); err != nil {
		return err
	}
	if owner != s.owner {
		return &ownedError{name: s.name, lost: true}
	}
	return nil
}

// checkForeign refuses a schema that has tables of another program.
func (s *server) checkForeign(ctx context.Context, conn *pgx.Conn) error {
	var ours bool
	var tables int
	err := conn.QueryRow(ctx, `SELECT to_regclass('appliance_schema') IS NOT NULL, (SELECT count(*) FROM pg_tables WHERE schemaname = current_schema())`).Scan(&ours, &tables)
	if err != nil || ours || tables == 0 {
		return err
	}
	return &database.NotDatabaseError{Path: s.name, Reason: fmt.Sprintf("it has %d tables of another program", tables), Next: createHint}
}

// conn is a connection whose statements are those of the store.
type conn struct {
	*stdlib.Conn
	server *server
	asked  atomic.Int64 // since when it waits for the server, in nanoseconds; 0: it does not
}

// Close closes the connection.
func (c *conn) Close() error {
	c.server.watch.remove(c)
	_ = c.Conn.Close() // it fails where the server cannot be told, such as one that is gone
	return nil
}

// Ping asks the server for an answer.
func (c *conn) Ping(ctx context.Context) error {
	c.asks()
	defer c.answered()
	return c.Conn.Ping(ctx)
}

// ResetSession asks the server for an answer if the connection was idle.
func (c *conn) ResetSession(ctx context.Context) error {
	c.asks()
	defer c.answered()
	return c.Conn.ResetSession(ctx)
}

func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	return nil, errors.New("statements are prepared when they first run, not by name")
}

// ExecContext runs one statement, or, without arguments, several.
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.asks()
	defer c.answered()
	if len(args) == 0 && strings.Contains(query, ";") {
		_, err := c.Conn.Conn().PgConn().Exec(ctx, query).ReadAll()
		return driver.ResultNoRows, c.server.typed(ctx, err)
	}
	s := c.server.translate(query)
	result, err := c.Conn.ExecContext(ctx, s.text, s.arguments(args))
	return result, c.server.typed(ctx, err)
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.asks()
	defer c.answered()
	s := c.server.translate(query)
	rows, err := c.Conn.QueryContext(ctx, s.text, s.arguments(args))
	if err != nil {
		return nil, c.server.typed(ctx, err)
	}
	return &watchedRows{rows, ctx, c}, nil
}

type watchedRows struct {
	driver.Rows
	ctx  context.Context
	conn *conn
}

func (r *watchedRows) Next(to []driver.Value) error {
	r.conn.asks()
	err := r.Rows.Next(to)
	r.conn.answered()
	return r.conn.server.typed(r.ctx, err)
}

// Close reads what is left of the rows.
func (r *watchedRows) Close() error {
	r.conn.asks()
	defer r.conn.answered()
	return r.Rows.Close()
}

// CheckNamedValue makes texts of all values but bytes: so PostgreSQL decides by the place of a
// parameter of what type it is, as SQLite does.
func (c *conn) CheckNamedValue(v *driver.NamedValue) (err error) {
	if v.Value, err = driver.DefaultParameterConverter.ConvertValue(v.Value); err != nil {
		return err
	}
	switch value := v.Value.(type) {
	case int64:
		v.Value = strconv.FormatInt(value, 10)
	case bool:
		v.Value = "0"
		if value {
			v.Value = "1"
		}
	case string:
		v.Value = Text(value)
	}
	return nil
}

// BeginTx begins a transaction. One that reads sees one state. One that writes is serializable, and
// with sql.LevelLinearizable, or of one of several daemons, runs while no other writes.
func (c *conn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	c.asks()
	defer c.answered()
	begin := `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`
	if !o.ReadOnly {
		begin = c.server.begin(sql.IsolationLevel(o.Isolation) == sql.LevelLinearizable)
	}
	if _, err := c.Conn.Conn().PgConn().Exec(ctx, begin).ReadAll(); err != nil {
		if c.Conn.Conn().IsClosed() {
			return nil, driver.ErrBadConn // nothing has run: on another connection it may
		}
		_, _ = c.Conn.Conn().PgConn().Exec(ctx, `ROLLBACK`).ReadAll() // or the connection is lost, which the next statement finds out
		return nil, c.server.typed(ctx, err)
	}
	return &tx{c, !o.ReadOnly}, nil
}

type tx struct {
	conn   *conn
	writes bool
}

// Commit tells the store which rows have changed before the write is acknowledged, also when it is
// unknown whether they have.
func (t *tx) Commit() error {
	ctx := context.Background()
	if s := t.conn.server; t.writes && s.rehearse {
		if s.again = !s.again; s.again {
			return errors.Join(t.Rollback(), &pgconn.PgError{Code: "40001", Message: "this was the rehearsal"})
		}
	}
	t.conn.asks()
	defer t.conn.answered()
	commit := `COMMIT`
	if t.writes {
		commit = t.conn.server.commit()
		t.conn.server.warning = nil
	}
	results, err := t.conn.Conn.Conn().PgConn().Exec(ctx, commit).ReadAll()
	if t.writes && err == nil && t.conn.server.warning != nil {
		err = &unsureError{t.conn.server.warning}
	}
	if err == nil && len(results) > 0 && results[len(results)-1].CommandTag.String() == "ROLLBACK" {
		err = errors.New("the transaction had failed before and was rolled back")
	}
	if err != nil && commit != `COMMIT` && !t.conn.Conn.Conn().IsClosed() { // it may not have come to the commit
		_, _ = t.conn.Conn.Conn().PgConn().Exec(ctx, `ROLLBACK`).ReadAll() // whose failure loses the connection, and so the transaction
	}
	if t.writes {
		t.conn.server.committed()
	}
	return t.conn.server.typed(ctx, err)
}

func (t *tx) Rollback() error {
	if t.writes {
		t.conn.server.forget()
	}
	if t.conn.Conn.Conn().IsClosed() {
		return nil
	}
	t.conn.asks()
	defer t.conn.answered()
	_, err := t.conn.Conn.Conn().PgConn().Exec(context.Background(), `ROLLBACK`).ReadAll()
	return t.conn.server.typed(context.Background(), err)
}
