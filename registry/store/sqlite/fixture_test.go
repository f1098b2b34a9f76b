package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"
)

// versions returns a schema of so many versions.
func versions(n int) Schema {
	all := fstest.MapFS{}
	for i, text := range []string{
		`CREATE TABLE notes (name TEXT PRIMARY KEY, value ANY) WITHOUT ROWID;`,
		`CREATE TABLE parts (note TEXT, position INTEGER, PRIMARY KEY (note, position)); CREATE INDEX parts_by_position ON parts (position);`,
	}[:n] {
		all[fmt.Sprintf("%04d_version.sql", i+1)] = &fstest.MapFile{Data: []byte(text)}
	}
	return Schema{Application: 0x74657374, Migrations: all} // "test"
}

// fixture is a database in a temporary directory.
type fixture struct {
	*DB
	t       testing.TB
	ctx     context.Context
	options Options
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	return newFixtureIn(t, t.TempDir())
}

func newFixtureIn(t testing.TB, dir string) *fixture {
	t.Helper()
	f := &fixture{t: t, ctx: context.Background(), options: Options{Path: filepath.Join(dir, "appliance.db"), Schema: versions(2)}}
	f.reopen()
	t.Cleanup(func() {
		if f.DB != nil {
			f.must(f.Close())
		}
	})
	return f
}

// reopen closes the database, if it is open, and opens it again.
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

func (f *fixture) note(name string, value any) {
	f.t.Helper()
	f.must(f.Write(f.ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(f.ctx, `INSERT INTO notes (name, value) VALUES (?, ?)`, name, value)
		return err
	}))
}

// size returns the size of the database's file with that suffix.
func (f *fixture) size(suffix string) int64 {
	f.t.Helper()
	info, err := os.Stat(f.path + suffix)
	f.must(err)
	return info.Size()
}

// hold keeps the writer until the function it returns is called, so that writes queue up.
func (f *fixture) hold() (release func()) {
	f.t.Helper()
	tx, err := f.writer.BeginTx(f.ctx, nil)
	f.must(err)
	f.t.Cleanup(func() { _ = tx.Rollback() }) // when a test fails before it releases: Close would wait for ever
	return func() { f.must(tx.Rollback()) }
}

// queued waits until so many writes are in the queue of the group.
func (f *fixture) queued(n int) {
	f.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		have := f.group.Queued()
		if have == n {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("%d writes are queued, want %d", have, n)
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func insertNote(name string) func(context.Context, *sql.Tx) error {
	return func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO notes (name, value) VALUES (?, x'00')`, name)
		return err
	}
}

// notes returns the names of the notes, in order.
func (f *fixture) notes() string {
	f.t.Helper()
	var names string
	f.must(f.reader.QueryRow(`SELECT coalesce(group_concat(name, ' ' ORDER BY name), '') FROM notes`).Scan(&names))
	return names
}
