//go:build postgres

package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/postgres/postgrestest"
)

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// server runs while the tests do.
var testServer *postgrestest.Server

func runTests(m *testing.M) (code int, err error) {
	if testServer, err = postgrestest.Start(context.Background()); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, testServer.Stop()) }()
	return m.Run(), nil
}

// fixture is a database of its own.
type fixture struct {
	*DB
	t       testing.TB
	ctx     context.Context
	name    string
	options Options
	changed changes
}

// changes are what the database told of rows.
type changes struct {
	mu   sync.Mutex
	told []string
}

func (c *changes) note(row database.Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	columns := make([]any, 2)
	line := fmt.Sprint(row.Table, " ", row.Op)
	if row.Table == "" {
		line = "any"
	} else if err := row.Old(columns...); err != nil {
		line += " many"
	} else {
		line += fmt.Sprintf(" %v %T %v", columns[0], columns[1], columns[1])
	}
	c.told = append(c.told, line)
}

func (c *changes) take() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := strings.Join(c.told, "; ")
	c.told = nil
	return all
}

// versions returns a schema of so many versions.
func versions(n int) fstest.MapFS {
	all := fstest.MapFS{}
	for i, text := range []string{
		`CREATE TABLE notes (name TEXT PRIMARY KEY, value BIGINT NOT NULL)`,
		`CREATE TABLE parts (note TEXT REFERENCES notes (name))`,
	}[:n] {
		all[fmt.Sprintf("%04d_version.sql", i+1)] = &fstest.MapFile{Data: []byte(text)}
	}
	return all
}

// own returns a list of this engine's own, of so many versions.
func own(n int) fstest.MapFS {
	all := fstest.MapFS{}
	for i, text := range []string{
		`CREATE TABLE own (note TEXT REFERENCES notes (name))`, `ALTER TABLE own ADD COLUMN daemon TEXT`,
	}[:n] {
		all[fmt.Sprintf("%04d_own.sql", i+1)] = &fstest.MapFile{Data: []byte(text)}
	}
	return all
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, ctx: t.Context()}
	name, address, err := testServer.Database(f.ctx, "")
	f.must(err)
	f.name = name
	all := []database.Op{database.Insert, database.Update, database.Delete}
	f.options = Options{Address: address, Migrations: versions(2), Watched: []Watched{{"notes", []string{"value", "name"}, all}},
		Changed: f.changed.note, Committed: func() {}}
	f.reopen()
	t.Cleanup(func() {
		if f.DB != nil {
			f.must(f.Close())
		}
	})
	f.changed.take()
	return f
}

func (f *fixture) reopen() {
	f.t.Helper()
	if f.DB != nil {
		f.must(f.Close())
	}
	var err error
	f.DB, err = Open(f.ctx, f.options)
	f.must(err)
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// beside runs a statement in a connection of its own.
func (f *fixture) beside(text string) {
	f.t.Helper()
	db, err := Beside(f.options.Address, nil)
	f.must(err)
	_, err = db.ExecContext(f.ctx, text)
	f.must(errors.Join(err, db.Close()))
}

// kill ends the connections of the database as a restart of the server does.
func (f *fixture) kill() {
	f.t.Helper()
	f.beside(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
}

func insertNote(name string, value any) func(context.Context, *sql.Tx) error {
	return func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO notes (value, name) VALUES (?2, ?1)`, name, value)
		return err
	}
}

// notes returns the names of the notes, in order.
func (f *fixture) notes() string {
	f.t.Helper()
	all, err := database.Column[string](f.ctx, f.Reader(), `SELECT name FROM notes ORDER BY name`)
	f.must(err)
	return strings.Join(all, " ")
}
