//go:build postgres

package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/postgres/postgrestest"
)

// A server has connections for three daemons, and one more. What needs another one fails at once with a hint, what has one
// goes on, and all goes on when some are free.
func TestDB_noConnectionLeft(t *testing.T) {
	ctx := t.Context()
	server, err := postgrestest.Start(ctx)
	must(t, err)
	defer func() { must(t, server.Stop()) }()
	must(t, server.Limit(ctx, 10))
	must(t, server.Exec(ctx, `CREATE ROLE plain LOGIN`, `CREATE DATABASE plain OWNER plain TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'`))
	o := Options{Address: strings.Replace(server.Both(server, "plain"), "appliance@", "plain@", 1), Migrations: versions(2), Several: true}
	refused := func(what string, err error) {
		t.Helper()
		var down *database.UnavailableError
		if !errors.As(err, &down) || codeOf(err) != "53300" || !strings.Contains(hint.Of(err), "raise max_connections") || !strings.Contains(hint.Of(err), "up to 14") {
			t.Errorf("%s: %v, hint %q", what, err, hint.Of(err))
		}
	}
	var dbs []*DB
	for range 3 {
		db, err := Open(ctx, o)
		must(t, err)
		dbs = append(dbs, db)
	}
	_, err = Open(ctx, o)
	refused("a fourth daemon", err)

	var all sync.WaitGroup
	var failed atomic.Int64
	for i, db := range dbs {
		for range 20 {
			all.Go(func() {
				if _, err := database.Column[string](ctx, db.Reader(), `SELECT name FROM notes, pg_sleep(0.01)`); err != nil {
					refused("a read", err)
					failed.Add(1)
				}
			})
		}
		all.Go(func() {
			if err := db.Share(ctx, insertNote(string(rune('a'+i)), 1)); err != nil {
				t.Errorf("a write, which has its connection: %v", err)
			}
		})
	}
	all.Wait()
	if failed.Load() == 0 {
		t.Error("the server had connections for all")
	}
	for _, db := range dbs[1:] {
		must(t, db.Renew(ctx))
		must(t, db.Close())
	}
	names, err := database.Column[string](ctx, dbs[0].Reader(), `SELECT name FROM notes ORDER BY name`)
	if err != nil || len(names) != 3 {
		t.Errorf("the notes are %q, %v", names, err)
	}
	again, err := Open(ctx, o)
	must(t, err)
	must(t, errors.Join(again.Close(), dbs[0].Close()))
}

// A daemon has as many connections as docs/database.md says, however much is asked of it.
func TestDB_connections(t *testing.T) {
	for name, c := range map[string]struct {
		several bool
		want    int
	}{"one daemon": {false, 7}, "one of several": {true, 11}} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.must(f.Close())
			f.DB = nil
			f.options.Several = c.several
			f.options.Topic = func(c database.Change) string { return c.Table }
			listens := make(chan []string, 100)
			f.options.Told = func(topics []string) { listens <- topics }
			f.reopen()
			if c.several {
				<-listens
			}
			ctx, end := context.WithCancel(f.ctx)
			var all sync.WaitGroup
			pools, busy := []*sql.DB{f.Reader()}, readers
			if c.several {
				pools, busy = append(pools, f.Marks()), readers+markers
			}
			for _, pool := range pools {
				for range 5 * readers {
					all.Go(func() {
						_, _ = pool.ExecContext(ctx, `SELECT pg_sleep(600)`) // which is ended
					})
				}
			}
			f.must(f.Share(f.ctx, insertNote("a", 1)))
			must(t, testServer.Until(f.ctx, fmt.Sprintf(`SELECT count(*) >= %d FROM pg_stat_activity WHERE query LIKE '%%pg_sleep(600)' AND datname = '%s'`, busy, f.name)))
			beside, err := Beside(f.options.Address, map[string]string{"application_name": "counts"})
			f.must(err)
			defer func() { f.must(beside.Close()) }()
			var n int
			f.must(beside.QueryRowContext(f.ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`).Scan(&n))
			if n != c.want {
				t.Errorf("%d connections, want %d", n, c.want)
			}
			end()
			all.Wait()
		})
	}
}
