package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// othersTime is how long the other hosts of an address have to answer once one of them is a primary.
const othersTime = time.Second

// readOnly is the parameter of connections that only read.
const readOnly = "default_transaction_read_only"

// primaries decides which server each connection is made to. All hosts of an address are asked at once, as the order in
// which they are named says nothing after a fail-over: the first may be gone without a trace, or be back with what it
// had. Each promotion of a standby begins a timeline with a higher number. Of two servers that take writes the one with
// the higher number has what was acknowledged last, and one with a lower number than any that was seen is refused.
//
// pgconn's target_session_attrs was refused: it tries one host after the other, takes the first that is writable, and
// finds the connections that only read not writable.
type primaries struct {
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	cluster string     // the identifier of the cluster, which a standby has in common with its primary
	newest  int64      // the highest timeline that was seen of it

	superseded *database.SupersededError // what the storage tells; nil: nothing
}

const originKey = "appliance origin"

// originOf returns the server of a connection.
func originOf(c *pgconn.PgConn) database.Server {
	o, _ := c.CustomData()[originKey].(database.Server) // none of a server that does not tell
	return o
}

// note remembers the server of a connection that is made.
func (p *primaries) note(o database.Server, host string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known := (database.Server{Cluster: p.cluster, Timeline: p.newest}); known.Precedes(o) {
		p.log.Info("the database has a new primary", "host", host, "timeline", o.Timeline, "before", p.newest)
	}
	if o.Cluster != p.cluster { // such as after pg_upgrade
		p.cluster, p.newest = o.Cluster, 0
	}
	p.newest = max(p.newest, o.Timeline)
}

// outdated returns an error if another server has gone on since a connection was made.
func (p *primaries) outdated(c *pgconn.PgConn) error {
	o := originOf(c)
	p.mu.Lock()
	defer p.mu.Unlock()
	if by := p.superseded; by != nil && (o.Cluster != by.By.Cluster || o.Precedes(by.By)) {
		return by
	}
	if o.Cluster == p.cluster && o.Timeline < p.newest {
		return &outdatedError{o.Timeline, p.newest}
	}
	return nil
}

// outdatedError reports a server whose place another one has taken.
type outdatedError struct{ timeline, newest int64 }

func (e *outdatedError) Error() string {
	return fmt.Sprintf("the server is an old primary: it has timeline %d, and a standby that was promoted went on with timeline %d", e.timeline, e.newest)
}

const outdatedHint = "if the old primary still runs, stop it, and have it follow the new one (pg_rewind, pg_basebackup); if it is the one to go on with, see `appliance docs database`"

const (
	askState = `SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'`
	// askOrigin may not be there in what only resembles PostgreSQL.
	askOrigin = `SELECT system_identifier, ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::bigint FROM pg_control_system()`
)

// validate returns what refuses a new connection to another server than a primary.
func (p *primaries) validate(reads bool) pgconn.ValidateConnectFunc {
	return func(ctx context.Context, c *pgconn.PgConn) error {
		state, err := c.Exec(ctx, askState).ReadAll()
		if err != nil {
			return err
		}
		if string(state[0].Rows[0][0]) == "t" {
			return &pgconn.PgError{Severity: "ERROR", Code: "25006", Message: "the server is a standby, or takes no writes"}
		}
		if found, err := c.Exec(ctx, askOrigin).ReadAll(); err == nil {
			row := found[0].Rows[0]
			timeline, err := strconv.ParseInt(string(row[1]), 10, 64)
			if err != nil {
				return err
			}
			c.CustomData()[originKey] = database.Server{Cluster: string(row[0]), Timeline: timeline}
		} else if codeOf(err) == "" {
			return err
		}
		if reads {
			_, err = c.Exec(ctx, `SET `+readOnly+` = on`).ReadAll()
		}
		return err
	}
}

// hosts returns a configuration for each host of one. sslmode=prefer has each twice, which stays.
func (p *primaries) hosts(c *pgx.ConnConfig) (all []*pgx.ConnConfig) {
	for i := range 1 + len(c.Fallbacks) {
		host := c.Copy() // whose TLS configurations alone lead to its certificates
		at := append([]*pgconn.FallbackConfig{{Host: host.Host, Port: host.Port, TLSConfig: host.TLSConfig}}, host.Fallbacks...)[i]
		same := func(h *pgx.ConnConfig) bool { return h.Host == at.Host && h.Port == at.Port }
		if slices.ContainsFunc(all, same) {
			continue
		}
		host.Host, host.Port, host.TLSConfig = at.Host, at.Port, at.TLSConfig
		host.Fallbacks = slices.DeleteFunc(host.Fallbacks[i:], func(f *pgconn.FallbackConfig) bool { return f.Host != at.Host || f.Port != at.Port })
		host.ValidateConnect = p.validate(c.RuntimeParams[readOnly] == "on")
		delete(host.RuntimeParams, readOnly) // the server may have it itself, which is asked first
		all = append(all, host)
	}
	return all
}

// hostsEvery is how often all hosts of an address are asked while the connections to one of them work.
const hostsEvery = 10 * time.Second

// renew has a pool that is used all the time renew its connections, if there are several hosts: each new one asks all of
// them, and so finds out that a standby was promoted although the old primary still answers.
func (db *DB) renew(pool *sql.DB, c *pgx.ConnConfig) {
	if len(db.server.primaries.hosts(c)) > 1 {
		pool.SetConnMaxLifetime(hostsEvery)
	}
}

// attempt is a connection to one host, or why there is none.
type attempt[C any] struct {
	conn C
	at   int // the place of the host in the address
	err  error
}

// newest connects to all hosts, and returns the connection to the primary.
func newest[C any](ctx context.Context, p *primaries, c *pgx.ConnConfig, connect func(context.Context, *pgx.ConnConfig) (C, error), of func(C) *pgconn.PgConn) (conn C, err error) {
	hosts := p.hosts(c)
	attempts := make(chan attempt[C], len(hosts))
	for at, host := range hosts {
		go func() {
			conn, err := connect(ctx, host)
			attempts <- attempt[C]{conn, at, err}
		}()
	}
	failed := &hostsError{make([]string, len(hosts)), make([]error, len(hosts))}
	for at, host := range hosts {
		failed.names[at] = hostName(host.Host, host.Port)
	}
	var best *attempt[C]
	var patience <-chan time.Time
	waiting := len(hosts)
	for ; waiting > 0; waiting-- {
		select {
		case a := <-attempts:
			switch {
			case a.err != nil:
				failed.errs[a.at] = a.err
			case best == nil:
				best, patience = &a, time.After(othersTime)
			case precedes(originOf(of(a.conn)), a.at, originOf(of(best.conn)), best.at):
				drop(of(best.conn))
				best = &a
			default:
				drop(of(a.conn))
			}
			continue
		case <-patience:
		}
		break
	}
	go func() { // those that answer too late
		for range waiting {
			if a := <-attempts; a.err == nil {
				drop(of(a.conn))
			}
		}
	}()
	if best == nil {
		return conn, failed
	}
	p.note(originOf(of(best.conn)), failed.names[best.at])
	if err := p.outdated(of(best.conn)); err != nil {
		drop(of(best.conn))
		return conn, err
	}
	return best.conn, nil
}

// precedes reports whether a server is the one to use of two.
func precedes(a database.Server, aAt int, b database.Server, bAt int) bool {
	if a.Timeline != b.Timeline {
		return a.Timeline > b.Timeline
	}
	return aAt < bAt
}

// drop ends a connection that is not used, without a wait for its server.
func drop(c *pgconn.PgConn) { _ = rawOf(c).Close() }
