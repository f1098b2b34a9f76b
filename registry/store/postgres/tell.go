package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/mirror-appliance/appliance/internal/retry"
)

const (
	// lookEvery is how often a daemon looks for changes of others of which it was not told.
	lookEvery = 10 * time.Second

	// telling makes what numbers the notifications.
	telling = `CREATE SEQUENCE IF NOT EXISTS appliance_told;
`
	channel = `'appliance' || hashtext(current_schema())`
)

// commit returns the statements that end a write. They tell the other daemons of the topics of its
// changes, by one notification in the same round trip.
func (s *server) commit() string {
	if !s.options.Several || s.options.Topic == nil {
		return `COMMIT`
	}
	var topics []string
	for _, c := range s.notes {
		if topic := s.options.Topic(c); topic != "" && !slices.Contains(topics, topic) {
			topics = append(topics, topic)
		}
	}
	if len(topics) == 0 {
		return `COMMIT`
	}
	return `SELECT pg_notify(` + channel + `, nextval('appliance_told') || ' ` + strings.Join(topics, " ") + `'); COMMIT`
}

// listener has the connection that is told of the changes of other daemons.
type listener struct {
	stop context.CancelFunc
	over chan struct{}

	heard int64 // the number of the last notification
	last  int64 // the number that the server had at the last look
}

// listen has Options.Told called until Close.
func (db *DB) listen() {
	var ctx context.Context
	ctx, db.listener.stop = context.WithCancel(context.Background())
	db.listener.over = make(chan struct{})
	go func() {
		defer close(db.listener.over)
		for wait := time.Duration(0); retry.Sleep(ctx, wait) == nil; wait = min(2*wait+100*time.Millisecond, lookEvery) {
			began := time.Now()
			if err := db.hear(ctx); ctx.Err() == nil {
				db.server.log.Warn("the connection that hears of other daemons was lost", "error", db.server.typed(ctx, err))
			}
			if time.Since(began) > lookEvery {
				wait = 0
			}
		}
	}()
}

func (db *DB) stopListening() {
	if db.listener.stop != nil {
		db.listener.stop()
		<-db.listener.over
	}
}

// hear listens by one connection until that is lost.
func (db *DB) hear(ctx context.Context) error {
	c := db.own.Copy()
	c.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.DeadlineContextWatcherHandler{Conn: conn.Conn()} // a wait that ends leaves the connection
	}
	conn, err := db.connect(ctx, c)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var name string
	if err := conn.QueryRow(ctx, `SELECT `+channel).Scan(&name); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, `LISTEN `+pgx.Identifier{name}.Sanitize()); err != nil {
		return err
	}
	if err := db.look(ctx, conn); err != nil {
		return err
	}
	db.listener.heard = db.listener.last
	db.server.options.Told(nil) // of what was changed while it did not listen
	for {
		if err := db.wait(ctx, conn); err != nil {
			return err
		}
		if err := db.look(ctx, conn); err != nil {
			return err
		}
	}
}

// wait tells of notifications until the next look.
func (db *DB) wait(ctx context.Context, conn *pgx.Conn) error {
	within, cancel := context.WithTimeout(ctx, cmp.Or(db.server.options.look, lookEvery))
	defer cancel()
	for {
		n, err := conn.WaitForNotification(within)
		if err != nil {
			if within.Err() != nil && !conn.IsClosed() {
				return ctx.Err()
			}
			return err
		}
		number, topics, _ := strings.Cut(n.Payload, " ")
		heard, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return fmt.Errorf("notification %q: %w", n.Payload, err)
		}
		db.listener.heard = max(db.listener.heard, heard)
		db.server.options.Told(strings.Fields(topics))
	}
}

// look tells that anything may have changed if notifications did not come: that of a write which has a
// number already may be on its way, so that one that lacks at two looks is lost.
func (db *DB) look(ctx context.Context, conn *pgx.Conn) error {
	if err := db.server.primaries.outdated(conn.PgConn()); err != nil {
		return err
	}
	var last int64
	if err := conn.QueryRow(ctx, `SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM appliance_told`).Scan(&last); err != nil {
		return err
	}
	l := &db.listener
	if l.heard < l.last {
		l.heard = l.last
		db.server.options.Told(nil)
	}
	l.last = last
	return nil
}
