package postgres

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// aliveEvery is how often the connection of a lock is asked whether it is there, and how long it has to
// answer. The server ends it later than that.
const aliveEvery = 3 * time.Second

// Alone is a name that this daemon has alone, until Release or until its connection is lost.
type Alone struct {
	Lost context.Context // ends when the name is not this daemon's any more
	end  func()
}

// Release leaves the name to others.
func (a *Alone) Release() { a.end() }

// alike and schemaKey are the keys of the advisory lock of the name $1.
const (
	alike     = `hashtext('appliance ' || $1)`
	schemaKey = `hashtext(current_schema())`
)

// Alone has this daemon be the only one with a name, by an advisory lock of a connection of its own:
// when the daemon dies the server gives it to another at once. *database.HeldError.
func (db *DB) Alone(ctx context.Context, name string) (*Alone, error) {
	c := db.own.Copy()
	c.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.DeadlineContextWatcherHandler{Conn: conn.Conn()} // a wait that ends leaves the connection
	}
	conn, err := db.connect(ctx, c)
	if err != nil {
		return nil, db.server.typed(ctx, err)
	}
	if err := db.takeName(ctx, conn, name); err != nil {
		_ = conn.Close(context.WithoutCancel(ctx)) // the error that counts is the other
		return nil, err
	}
	lost, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer cancel()
		for alive(lost, conn) == nil && db.server.primaries.outdated(conn.PgConn()) == nil {
		}
	}()
	return &Alone{Lost: lost, end: sync.OnceFunc(func() {
		cancel()
		<-over
		_ = conn.Close(context.Background()) // which a lost one has no use for
	})}, nil
}

func (db *DB) takeName(ctx context.Context, conn *pgx.Conn, name string) error {
	var taken bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(`+alike+`, `+schemaKey+`)`, name).Scan(&taken); err != nil {
		return db.server.typed(ctx, err)
	}
	if taken {
		return nil
	}
	hosts, err := holders(ctx, conn, alike, schemaKey, name)
	if err != nil {
		return db.server.typed(ctx, err)
	}
	return &database.HeldError{Name: name, Holder: hosts}
}

// alive returns an error once the connection is lost, or ctx ends, and nil after a while.
func alive(ctx context.Context, conn *pgx.Conn) error {
	wait, cancel := context.WithTimeout(ctx, aliveEvery)
	defer cancel()
	if _, err := conn.WaitForNotification(wait); conn.IsClosed() || ctx.Err() != nil {
		return fmt.Errorf("the connection of a lock is lost: %w", err)
	}
	ask, cancel := context.WithTimeout(ctx, aliveEvery)
	defer cancel()
	_, err := conn.Exec(ask, `SELECT 1`)
	return err
}
