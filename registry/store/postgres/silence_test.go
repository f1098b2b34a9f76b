//go:build postgres

package postgres

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/postgres/postgrestest"
)

// alone opens a database of a server of its own.
func alone(t *testing.T, o Options) (*postgrestest.Server, *DB) {
	t.Helper()
	server, err := postgrestest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	_, address, err := server.Database(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	o.Address, o.Migrations = address, versions(2)
	db, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return server, db
}

// A server that hangs answers no read, write and health check: each ends, also those that wait for a
// connection, and the database goes on when the server does.
func TestDB_aServerThatHangs(t *testing.T) {
	server, db := alone(t, Options{silent: 500 * time.Millisecond, probe: 2 * time.Second})
	ctx := context.Background() // the clients wait
	if err := db.Share(ctx, insertNote("before", 1)); err != nil {
		t.Fatal(err)
	}
	if err := server.Freeze(); err != nil {
		t.Fatal(err)
	}
	thaw := sync.OnceValue(server.Thaw)
	defer thaw() // which the server needs to end
	var wait sync.WaitGroup
	ends := func(what string, do func() error) {
		wait.Go(func() {
			var down *database.UnavailableError
			if err := do(); !errors.As(err, &down) || hint.Of(err) == "" {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	for range 3 * readers {
		ends("a read", func() error {
			_, err := database.Column[string](ctx, db.Reader(), `SELECT name FROM notes`)
			return err
		})
		ends("a write", func() error { return db.Share(ctx, insertNote("meanwhile", 1)) })
	}
	ends("a write of its own", func() error {
		return db.Write(ctx, func(tx *sql.Tx) error { return insertNote("alone", 1)(ctx, tx) })
	})
	ends("health", func() error { return db.Check(ctx) })
	wait.Wait()
	ends("a read after that", func() error {
		_, err := database.Column[string](ctx, db.Reader(), `SELECT name FROM notes`)
		return err
	})
	wait.Wait()
	if err := thaw(); err != nil {
		t.Fatal(err)
	}
	for db.Check(ctx) != nil || db.Share(ctx, insertNote("after", 1)) != nil {
		time.Sleep(50 * time.Millisecond)
	}
	names, err := database.Column[string](ctx, db.Reader(), `SELECT name FROM notes WHERE name IN ('before', 'after') ORDER BY name`)
	if err != nil || len(names) != 2 {
		t.Errorf("the notes are %v, %v", names, err)
	}
}

// A statement that takes long is one of a server that lives, also when that has no connection left.
func TestDB_aLongStatement(t *testing.T) {
	f := newFixture(t)
	f.options.silent = 10 * time.Millisecond
	f.reopen()
	pid := func() (pid int) {
		f.must(f.writer.QueryRowContext(f.ctx, `SELECT pg_backend_pid()`).Scan(&pid))
		return pid
	}
	before := pid()
	f.must(f.Write(f.ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(f.ctx, `SELECT pg_sleep(1)`)
		return err
	}))
	var rows int
	f.must(f.Reader().QueryRowContext(f.ctx, `SELECT count(*) FROM (SELECT pg_sleep(0.05) FROM generate_series(1, 20)) s`).Scan(&rows))
	if after := pid(); after != before || rows != 20 {
		t.Errorf("the connection of %d is that of %d; %d rows", before, after, rows)
	}
}

// A server to which nothing gets any more does not answer either.
func TestProbe(t *testing.T) {
	f := newFixture(t)
	direct, err := f.Reader().Conn(f.ctx)
	f.must(err)
	defer direct.Close()
	f.must(direct.Raw(func(of any) error {
		c := of.(*conn)
		if err := probe(c, time.Minute); err != nil {
			t.Errorf("a server that lives: %v", err)
		}
		return nil
	}))
	l, err := net.Listen("tcp", "127.0.0.1:0") // which accepts, and nothing more
	f.must(err)
	defer l.Close()
	if err := ask(l.Addr(), 50*time.Millisecond, false); !timedOut(err) {
		t.Errorf("one that answers nothing: %v", err)
	}
	if err := ask(l.Addr(), time.Minute, true); err != nil {
		t.Errorf("one that waits for TLS: %v", err)
	}
	f.must(l.Close())
	if err := ask(l.Addr(), time.Minute, false); err == nil {
		t.Error("one that is not there answers")
	}
}
