package postgres

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

const (
	// leaseTime is how long a daemon counts as alive after it renewed its row. What it had is free then.
	leaseTime = time.Minute
	// sureTime is how long after a renewal a daemon may do what only it does, such as removing an object.
	// What it has begun then has ended before the lease.
	sureTime = leaseTime / 2

	renewEvery = leaseTime / 12

	// markers is how many connections Marks has: a statement there takes one round trip.
	markers = 2
	// idleInTransaction bounds how long a daemon that hangs in a write keeps the others from writing.
	idleInTransaction = leaseTime
)

// members makes the table of the daemons, and the function that refuses the writes of one without a
// row. Times are those of the server, in nanoseconds.
const members = `CREATE TABLE IF NOT EXISTS daemons (id text NOT NULL PRIMARY KEY, name text NOT NULL, started bigint NOT NULL, seen bigint NOT NULL);
	CREATE OR REPLACE FUNCTION appliance_now() RETURNS bigint LANGUAGE sql VOLATILE AS
		'SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000';
	CREATE OR REPLACE FUNCTION appliance_member(member text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF NOT EXISTS (SELECT 1 FROM daemons WHERE id = member) THEN
			RAISE EXCEPTION 'the lease of this daemon has ended' USING ERRCODE = '` + leaseEnded + `';
		END IF;
	END $$;
`

// leaseEnded is the code of the error of a write without a lease.
const leaseEnded = "AP001"

// configureSeveral has the server notice soon that the writer's host is gone, or hangs in a write that
// others wait for.
func configureSeveral(c *pgx.ConnConfig) {
	params := c.RuntimeParams
	params["tcp_keepalives_idle"] = "10"
	params["tcp_keepalives_interval"] = "5"
	params["tcp_keepalives_count"] = "3"
	params["idle_in_transaction_session_timeout"] = fmt.Sprint(idleInTransaction.Milliseconds())
}

// member is a daemon as the others see it. One whose row was deleted becomes another member.
type member struct {
	id      string
	renewed atomic.Int64 // when the last renewal began, since the start of this process
}

// lease renews the row.
type lease struct {
	rows *sql.DB // a connection of its own: a renewal waits for no write
	stop context.CancelFunc
	over chan struct{} // closed at the end
}

// clock is a monotonic time.
func (s *server) clock() int64 { return int64(time.Since(s.began)) }

// Member returns the id of this daemon's row, "" when it has the database alone. It is another one
// after the lease ended.
func (db *DB) Member() string {
	if m := db.server.member.Load(); m != nil {
		return m.id
	}
	return ""
}

// Holds reports whether this daemon is surely the member of an id still when a request that it begins now has ended.
func (db *DB) Holds(id string) bool {
	m := db.server.member.Load()
	return m != nil && m.id == id && db.server.clock()-m.renewed.Load() < int64(sureTime)
}

// Marks returns connections of one of several daemons on which each statement is a transaction beside the writes, and waits for none
// of them: for rows that tell what a daemon is doing, where one row decides. Statements name this daemon by
// appliance_member, which refuses one without a lease.
func (db *DB) Marks() *sql.DB { return db.marks }

// join makes this daemon a member, and renews its row until Leave or Close.
func (db *DB) join(ctx context.Context) error {
	if err := db.goOnShared(ctx); err != nil {
		return err
	}
	c := db.own.Copy()
	c.RuntimeParams["statement_timeout"] = fmt.Sprint(sureTime.Milliseconds() / 2)
	db.lease.rows = sql.OpenDB(db.server.connector(c, false))
	db.lease.rows.SetMaxOpenConns(1)
	db.renew(db.lease.rows, c)
	c = c.Copy()
	c.RuntimeParams["default_transaction_isolation"] = "read committed"
	db.marks = sql.OpenDB(db.server.connector(c, false))
	db.marks.SetMaxOpenConns(markers)
	db.marks.SetMaxIdleConns(markers)
	if err := db.enter(ctx); err != nil {
		return err
	}
	ctx, db.lease.stop = context.WithCancel(context.Background())
	db.lease.over = make(chan struct{})
	go func() {
		defer close(db.lease.over)
		tick := time.NewTicker(renewEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			case <-db.server.ended: // a write has found out
			}
			if err := db.Renew(ctx); err != nil && ctx.Err() == nil {
				db.server.log.Warn("could not renew the lease of this daemon", "error", err)
			}
		}
	}()
	return nil
}

// enter makes a row with a new id.
func (db *DB) enter(ctx context.Context) error {
	m := &member{id: rand.Text()}
	m.renewed.Store(db.server.clock())
	_, err := db.lease.rows.ExecContext(ctx, `INSERT INTO daemons (id, name, started, seen) SELECT ?1, ?2, now, now FROM appliance_now() now`, m.id, processHere())
	if err == nil {
		db.server.member.Store(m)
	}
	return err
}

// Renew renews the row of this daemon, or makes another one when it was deleted, and deletes those
// whose leases have ended. It is called by itself.
func (db *DB) Renew(ctx context.Context) error {
	began, m := db.server.clock(), db.server.member.Load()
	result, err := db.lease.rows.ExecContext(ctx, `UPDATE daemons SET seen = appliance_now() WHERE id = ?`, m.id)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil {
		return err
	} else if n == 0 {
		lasted := time.Duration(began - m.renewed.Load()).Round(time.Second)
		why := "it was not renewed for " + lasted.String() + ": the daemon was stopped or too slow, or the database did not answer it"
		if lasted < leaseTime {
			why = "the database lacks it, as after a fail-over or a restore"
		}
		db.server.log.Warn("the lease of this daemon ended, since "+why+"; what it was doing for clients begins again", "lease", leaseTime)
		return db.enter(ctx)
	}
	m.renewed.Store(began)
	_, err = db.lease.rows.ExecContext(ctx, `DELETE FROM daemons WHERE seen < appliance_now() - CAST(? AS BIGINT)`, int64(leaseTime))
	return err
}

// Leave deletes the row of this daemon: what it has is free at once. Without it, as after Close alone,
// it is free when the lease ends.
func (db *DB) Leave(ctx context.Context) error {
	if !db.stopRenewing() {
		return nil
	}
	_, err := db.lease.rows.ExecContext(ctx, `DELETE FROM daemons WHERE id = ?`, db.Member())
	return err
}

// Clock returns how far the clock of the server is ahead of this host's, as far as the time that the
// answer took leaves no doubt.
func (db *DB) Clock(ctx context.Context) (ahead time.Duration, err error) {
	began := time.Now()
	var now int64
	if err := db.reader.QueryRowContext(ctx, `SELECT appliance_now()`).Scan(&now); err != nil {
		return 0, err
	}
	server, ended := time.Unix(0, now), time.Now()
	switch {
	case server.After(ended):
		return server.Sub(ended), nil
	case server.Before(began):
		return server.Sub(began), nil
	}
	return 0, nil
}

// leaseEnded has the row renewed now, after a write has found out that it is gone.
func (s *server) leaseEnded() {
	select {
	case s.ended <- struct{}{}:
	default:
	}
}

// stopRenewing ends the renewal and reports whether there was one.
func (db *DB) stopRenewing() bool {
	if db.lease.stop == nil {
		return false
	}
	db.lease.stop()
	<-db.lease.over
	return true
}

// begin returns the statements that begin a write. LOCK takes no snapshot: the transaction sees what
// was committed while it waited.
func (s *server) begin(alone bool) string {
	const begin = `BEGIN ISOLATION LEVEL SERIALIZABLE; LOCK TABLE appliance_schema IN `
	if m := s.member.Load(); m != nil {
		return begin + `EXCLUSIVE MODE; SELECT appliance_member('` + m.id + `')`
	}
	if alone {
		return begin + `EXCLUSIVE MODE`
	}
	return begin + `ROW SHARE MODE`
}

// share takes the lock of the database that other daemons may have too, when the schema is the one of
// this program.
func (s *server) share(ctx context.Context, conn *pgx.Conn) (current bool, err error) {
	if err := s.lockBy(ctx, conn, "pg_advisory_lock_shared"); err != nil {
		return false, err
	}
	known, err := s.options.known()
	if err != nil {
		return false, err
	}
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass('appliance_schema') IS NOT NULL AND to_regclass('daemons') IS NOT NULL`).Scan(&exists); err != nil || !exists {
		return false, err
	}
	var have Schema
	err = conn.QueryRow(ctx, selectSchema).Scan(&have.Version, &have.Own, &have.Made)
	return have == known, err
}

// takeShared takes the database with other daemons. The first one, and one of another version, needs
// it alone until migrate has run.
func (s *server) takeShared(ctx context.Context, conn *pgx.Conn) error {
	for began := time.Now(); ; {
		current, err := s.share(ctx, conn)
		if err != nil {
			return err
		}
		if current {
			s.joined = true
			return nil
		}
		if err := s.lockBy(ctx, conn, "pg_advisory_unlock_shared"); err != nil {
			return err
		}
		if s.joined {
			return &versionError{name: s.name, lost: true}
		}
		var alone bool
		if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1, hashtext(current_schema()))`, lockKey).Scan(&alone); err != nil {
			return err
		}
		if alone {
			return s.own(ctx, conn)
		}
		if time.Since(began) > lockTimeout {
			return &versionError{name: s.name}
		}
		time.Sleep(100 * time.Millisecond) // another one migrates it, which goes on with the shared lock
	}
}

// goOnShared exchanges the lock of one daemon for that of several.
func (db *DB) goOnShared(ctx context.Context) error {
	s := db.server
	if s.joined {
		return nil
	}
	_, err := db.writer.ExecContext(ctx, fmt.Sprintf(`SELECT pg_advisory_lock_shared(%[1]d, hashtext(current_schema())); SELECT pg_advisory_unlock(%[1]d, hashtext(current_schema()))`, lockKey))
	s.joined = err == nil
	return err
}

// versionError reports that daemons of another version have the database.
type versionError struct {
	name string
	lost bool // it was migrated while the connection was lost
}

func (e *versionError) Error() string {
	if e.lost {
		return "another version of the appliance has changed the database " + e.name + " while the connection to it was lost"
	}
	return "the database " + e.name + " is in use by daemons of another version of the appliance"
}

// Hint returns the next step.
func (e *versionError) Hint() string {
	return "all daemons of one database need the same version: stop those of the other version, then start this one"
}

// Unwrap makes it a *database.LockedError.
func (e *versionError) Unwrap() error { return &database.LockedError{Path: e.name} }

// lockBy takes or leaves the lock of the database by a function of PostgreSQL.
func (s *server) lockBy(ctx context.Context, conn *pgx.Conn, function string) error {
	_, err := conn.Exec(ctx, fmt.Sprintf(`SET lock_timeout = %d; SELECT %s(%d, hashtext(current_schema())); SET lock_timeout = 0`,
		lockTimeout.Milliseconds(), function, lockKey), pgx.QueryExecModeSimpleProtocol)
	if codeOf(err) == "55P03" {
		owned := &ownedError{name: s.name, lost: s.owner != "", several: s.options.Several}
		var failed error
		if owned.hosts, failed = holders(ctx, conn, strconv.Itoa(lockKey), schemaKey); failed != nil {
			s.log.Debug("which host has the database is not known", "error", failed)
		}
		return owned
	}
	return err
}
