//go:build postgres

package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// A look tells what the database has and what this program has, and changes nothing.
func TestLook(t *testing.T) {
	f := newFixture(t)
	look := func(o Options) State {
		t.Helper()
		at, err := Look(f.ctx, o)
		f.must(err)
		return at
	}
	older, newer := f.options, f.options
	newer.Own, newer.Watched = own(1), nil
	known, err := older.known()
	f.must(err)
	more, err := newer.known()
	f.must(err)
	if known.Made == more.Made || known.Version != 2 || more.Own != 1 {
		t.Fatalf("two programs know %+v and %+v", known, more)
	}
	for range 2 {
		if at := look(newer); at.Have != known || at.Known != more {
			t.Errorf("a newer program sees %+v", at)
		}
	}
	f.options = newer
	f.reopen()
	if at := look(older); at.Have != more || at.Known != known {
		t.Errorf("an older program sees %+v", at)
	}
	f.must(f.Close())
	f.DB = nil
	f.must(testServer.Until(f.ctx, `SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = '`+f.name+`')`))
	if at := look(older); len(at.Daemons) != 0 || at.Have != more {
		t.Errorf("none has it, and a look sees %+v", at)
	}
	f.beside(`ALTER TABLE appliance_schema DROP COLUMN own, DROP COLUMN made`) // as of an early version
	if at := look(older); at.Have != (Schema{Version: 2}) {
		t.Errorf("of an early version it sees %+v", at.Have)
	}
	_, address, err := testServer.Database(f.ctx, "")
	f.must(err)
	if _, err := Look(f.ctx, Options{Address: address, Migrations: versions(2)}); !errors.As(err, new(*database.NotDatabaseError)) {
		t.Errorf("an empty database: %v", err)
	}
}

// A look tells of each daemon that has the lock of the database, once, and of no other connection.
func TestLook_daemons(t *testing.T) {
	f := newSeveral(t)
	_, other, err := testServer.Database(f.ctx, "")
	f.must(err)
	connect := func(address, name string) *sql.Conn {
		t.Helper()
		db, err := Beside(address, map[string]string{"application_name": name})
		f.must(err)
		conn, err := db.Conn(f.ctx)
		f.must(err)
		t.Cleanup(func() { f.must(errors.Join(conn.Close(), db.Close())) })
		return conn
	}
	const daemon = onHost + "b.example.com (process 7)"
	lock := fmt.Sprintf(`SELECT pg_advisory_lock_shared(%d, %s)`, lockKey, schemaKey)
	for _, c := range []struct{ address, name, statement string }{
		{f.options.Address, daemon, lock},
		{f.options.Address, daemon, lock},
		{other, onHost + "another database", lock},
		{f.options.Address, "no daemon", lock},
		{f.options.Address, onHost + "no lock", `SELECT 1`},
		{f.options.Address, onHost + "another schema", fmt.Sprintf(`SELECT pg_advisory_lock_shared(%d, hashtext('other'))`, lockKey)},
		{f.options.Address, onHost + "another lock", fmt.Sprintf(`SELECT pg_advisory_lock_shared(%d, %s)`, lockKey+1, schemaKey)},
		{f.options.Address, onHost + "a lock of one key", fmt.Sprintf(`SELECT pg_advisory_lock_shared((%d::bigint << 32) | (%s & 4294967295))`, lockKey, schemaKey)},
	} {
		_, err := connect(c.address, c.name).ExecContext(f.ctx, c.statement)
		f.must(err)
	}
	waits, end := context.WithCancel(f.ctx)
	ended := make(chan struct{})
	waiting := connect(f.options.Address, onHost+"one that waits")
	go func() {
		defer close(ended)
		_, _ = waiting.ExecContext(waits, fmt.Sprintf(`SELECT pg_advisory_lock(%d, %s)`, lockKey, schemaKey)) // until end
	}()
	defer func() { end(); <-ended }()
	f.must(testServer.Until(f.ctx, `SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)`))

	at, err := Look(f.ctx, f.options)
	f.must(err)
	want := []string{"b.example.com (process 7)", processHere()}
	slices.Sort(want)
	if !slices.Equal(at.Daemons, want) {
		t.Errorf("a look tells of %q, want %q", at.Daemons, want)
	}
}
