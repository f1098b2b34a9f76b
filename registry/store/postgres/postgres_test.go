//go:build postgres

package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

func TestOpen_refuses(t *testing.T) {
	t.Run("a second process", func(t *testing.T) {
		f := newFixture(t)
		var locked *database.LockedError
		if db, err := Open(f.ctx, f.options); !errors.As(err, &locked) || hint.Of(err) == "" {
			t.Errorf("got %v, %v", db, err)
		}
		f.must(f.Share(f.ctx, insertNote("a", 1))) // the first goes on
	})
	t.Run("another collation", func(t *testing.T) {
		f := newFixture(t)
		f.beside(`CREATE DATABASE other TEMPLATE template0 LOCALE 'C.UTF-8'`)
		o := f.options
		o.Address = strings.Replace(o.Address, "/"+f.name+"?", "/other?", 1)
		if _, err := Open(f.ctx, o); err == nil || !strings.Contains(err.Error(), "collation C.UTF-8") || hint.Of(err) != createHint {
			t.Errorf("got %v", err)
		}
	})
	t.Run("tables of another program", func(t *testing.T) {
		f := newFixture(t)
		f.must(f.Close())
		f.beside(`DROP TABLE appliance_schema`)
		var not *database.NotDatabaseError
		if _, err := Open(f.ctx, f.options); !errors.As(err, &not) {
			t.Errorf("got %v", err)
		}
		f.DB = nil
	})
	t.Run("other versions", func(t *testing.T) {
		f := newFixture(t)
		f.must(f.Close())
		var schema *database.SchemaError
		f.options.Migrations = versions(1)
		if _, err := Open(f.ctx, f.options); !errors.As(err, &schema) || schema.Have != 2 || schema.Known != 1 {
			t.Errorf("a newer one: %v", err)
		}
		f.beside(`DROP TABLE parts; UPDATE appliance_schema SET version = 1`)
		f.options.Migrations, f.options.Current = versions(2), true
		if _, err := Open(f.ctx, f.options); !errors.As(err, &schema) || schema.Have != 1 {
			t.Errorf("an older one: %v", err)
		}
		f.options.Current = false
		f.DB = nil
		f.reopen()
	})
	t.Run("other versions of its own list", func(t *testing.T) {
		f := newFixture(t)
		f.must(f.Close())
		f.DB = nil
		var schema *database.SchemaError
		f.options.Own, f.options.Current = own(1), true
		if _, err := Open(f.ctx, f.options); !errors.As(err, &schema) || schema.Have != 2 || schema.Known != 3 {
			t.Errorf("an older one: %v", err)
		}
		f.options.Current = false
		f.reopen()
		f.options.Own = own(2)
		f.reopen()
		f.must(f.Write(f.ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(f.ctx, `INSERT INTO own (daemon) VALUES ('a')`)
			return err
		}))
		f.must(f.Close())
		f.DB = nil
		f.options.Own = own(1)
		if _, err := Open(f.ctx, f.options); !errors.As(err, &schema) || schema.Have != 4 || schema.Known != 3 {
			t.Errorf("a newer one: %v", err)
		}
	})
	t.Run("what its caller refuses", func(t *testing.T) {
		f := newFixture(t)
		f.must(f.Close())
		f.beside(`DROP TABLE parts; DROP TABLE notes; DROP TABLE appliance_schema; DROP TABLE daemons`)
		f.options.Fresh = func() error { return errors.New("there are blobs") }
		if _, err := Open(f.ctx, f.options); err == nil || err.Error() != "there are blobs" {
			t.Errorf("got %v", err)
		}
		f.DB = nil
	})
}

// No message has a password, whatever the address is.
func TestOpen_hidesThePassword(t *testing.T) {
	f := newFixture(t)
	for _, address := range []string{
		"postgres://appliance:hidden@127.0.0.1:1/db?connect_timeout=1",
		"postgres://appliance:hidden@127.0.0.1:port/db",
		"postgres://appliance:hidden@127.0.0.1:1/db?sslmode=other",
		"postgres://appliance:hid%zzden@127.0.0.1/db",
	} {
		o := f.options
		o.Address = address
		ctx, cancel := context.WithCancel(f.ctx)
		cancel()
		if _, err := Open(ctx, o); err == nil || strings.Contains(err.Error()+hint.Of(err), "hidden") || strings.Contains(err.Error(), "zzden") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestDB_tellsOfChanges(t *testing.T) {
	f := newFixture(t)
	write := func(texts ...string) error {
		return f.Write(f.ctx, func(tx *sql.Tx) error {
			for _, text := range texts {
				if _, err := tx.ExecContext(f.ctx, text); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for _, c := range []struct{ name, text, want string }{
		{"insert", `INSERT INTO notes (name, value) VALUES ('a', 9007199254740993), ('b', 2)`, "notes 1 9007199254740993 string a; notes 1 2 string b"},
		{"update of a key", `UPDATE notes SET name = 'c' WHERE name = 'b'`, "notes 2 2 string b; notes 2 2 string c"},
		{"nothing", `UPDATE notes SET name = 'c' WHERE name = 'x'`, ""},
		{"delete", `DELETE FROM notes`, "notes 3 9007199254740993 string a; notes 3 2 string c"},
		{"many", `INSERT INTO notes (name, value) SELECT 'n' || i, i FROM generate_series(1, 10001) i`, "notes 2 many"},
	} {
		f.must(write(c.text))
		if got := f.changed.take(); got != c.want {
			t.Errorf("%s: told of %s", c.name, got)
		}
	}
	if err := write(`DELETE FROM notes`, `SELECT 1/0`); err == nil {
		t.Error("a failed write succeeded")
	}
	if got := f.changed.take(); got != "" {
		t.Errorf("told of what was rolled back: %s", got)
	}
}

// After the connection was lost, writes go on, and everything counts as changed.
func TestDB_connectsAgain(t *testing.T) {
	f := newFixture(t)
	f.must(f.Share(f.ctx, insertNote("a", 1)))
	f.changed.take()
	f.kill()
	err := f.Share(f.ctx, insertNote("b", 1))
	for err != nil {
		var unavailable *database.UnavailableError
		if !errors.As(err, &unavailable) || hint.Of(err) == "" {
			t.Fatalf("got %v", err)
		}
		err = f.Share(f.ctx, insertNote("b", 1))
	}
	if got := f.changed.take(); !strings.HasPrefix(got, "any; ") {
		t.Errorf("told of %s", got)
	}
	f.kill()
	if err := f.Check(f.ctx); err != nil && f.Check(f.ctx) != nil {
		t.Errorf("a read after the connection was lost: %v", err)
	}
	if got := f.notes(); got != "a b" {
		t.Errorf("written: %s", got)
	}
}

// A connection that is lost within a transaction fails its write, of which nothing stays.
func TestDB_connectionIsLostInATransaction(t *testing.T) {
	f := newFixture(t)
	err := f.Write(f.ctx, func(tx *sql.Tx) error {
		if err := insertNote("a", 1)(f.ctx, tx); err != nil {
			return err
		}
		f.kill()
		return insertNote("b", 1)(f.ctx, tx)
	})
	var unavailable *database.UnavailableError
	if !errors.As(err, &unavailable) {
		t.Errorf("got %v", err)
	}
	for f.Share(f.ctx, insertNote("c", 1)) != nil {
	}
	if got := f.notes(); got != "c" {
		t.Errorf("written: %s", got)
	}
}

// A process whose database another one has had writes no more: what it remembers is out of date.
func TestDB_anotherTakesTheDatabase(t *testing.T) {
	f := newFixture(t)
	f.beside(`UPDATE appliance_schema SET owner = 'another'`)
	f.must(f.Share(f.ctx, insertNote("a", 1)))
	f.kill()
	var locked *database.LockedError
	err := f.Share(f.ctx, insertNote("b", 1))
	for errors.As(err, new(*database.UnavailableError)) {
		err = f.Share(f.ctx, insertNote("b", 1))
	}
	if !errors.As(err, &locked) || !strings.Contains(err.Error(), "another appliance has taken") {
		t.Errorf("got %v", err)
	}
	if got := f.notes(); got != "a" {
		t.Errorf("written: %s", got)
	}
}

// A transaction that conflicts with one of another process runs again, and at last alone.
func TestDB_repeats(t *testing.T) {
	f := newFixture(t)
	f.must(f.Share(f.ctx, insertNote("sum", 0)))
	for _, conflicts := range []int{1, politeAndMore} {
		attempts := 0
		err := f.Share(f.ctx, func(ctx context.Context, tx *sql.Tx) error {
			var n int64
			if err := tx.QueryRowContext(ctx, `SELECT value FROM notes WHERE name = 'sum'`).Scan(&n); err != nil {
				return err
			}
			attempts++
			if attempts <= conflicts { // another process, which knows no locks of ours
				f.beside(`UPDATE notes SET value = value + 1 WHERE name = 'sum'`)
			}
			_, err := tx.ExecContext(ctx, `UPDATE notes SET value = ? WHERE name = 'sum'`, n+100)
			return err
		})
		if err != nil || attempts != conflicts+1 {
			t.Errorf("%d conflicts: %v after %d attempts", conflicts, err, attempts)
		}
	}
	var n int
	f.must(f.Reader().QueryRow(`SELECT value FROM notes`).Scan(&n))
	if n != 200+1+politeAndMore {
		t.Errorf("the sum is %d", n)
	}
}

// politeAndMore is more conflicts than a transaction has before it runs alone.
const politeAndMore = 4

func TestServer_typed(t *testing.T) {
	s := newFixture(t).server
	for code, is := range map[string]func(error) bool{
		"53100": func(err error) bool { return errors.As(err, new(*diskspace.FullError)) },
		"53300": unavailable, "25006": unavailable, "57P01": unavailable, "57P03": unavailable, "08006": unavailable, "40001": unavailable,
		"XX001": func(err error) bool { return errors.As(err, new(*database.CorruptError)) },
		"28P01": hinted, "3D000": hinted, "42501": hinted,
	} {
		err := s.typed(context.Background(), fmt.Errorf("query: %w", &pgconn.PgError{Code: code, Message: "it fails"}))
		if !is(err) || hint.Of(err) == "" || !strings.Contains(err.Error(), "it fails") {
			t.Errorf("%s: %v, %q", code, err, hint.Of(err))
		}
	}
	if s.damage.Load() == nil {
		t.Error("the damage is not remembered")
	}
}

func unavailable(err error) bool { return errors.As(err, new(*database.UnavailableError)) }
func hinted(err error) bool      { return hint.Of(err) != "" }

// The readers cannot write, and a write whose context ends leaves the connection as it is.
func TestDB_readersAndContexts(t *testing.T) {
	f := newFixture(t)
	if _, err := f.Reader().Exec(`INSERT INTO notes (name, value) VALUES ('a', 1)`); codeOf(err) != "25006" {
		t.Errorf("a reader wrote: %v", err)
	}
	ctx, cancel := context.WithCancel(f.ctx)
	err := f.Write(ctx, func(tx *sql.Tx) error {
		cancel()
		_, err := tx.ExecContext(ctx, `SELECT pg_sleep(600)`)
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	f.must(f.Share(f.ctx, insertNote("b", 1)))
	if got := f.changed.take(); got != "notes 1 1 string b" {
		t.Errorf("the connection was lost: %s", got)
	}
	if _, err := f.Snapshot(f.ctx); hint.Of(err) == "" {
		t.Errorf("a snapshot: %v", err)
	}
}

func TestTranslate(t *testing.T) {
	for text, want := range map[string]string{
		`SELECT '?', "a?" FROM t WHERE a = ? AND b = ?`:      `SELECT '?', "a?" FROM t WHERE a = $1 AND b = $2`,
		`SELECT 1 FROM (SELECT 1) /* AS page */ WHERE 1 = 1`: `SELECT 1 FROM (SELECT 1) AS page WHERE 1 = 1`,
		`SELECT ?3, ?1, ?3`: `SELECT $1, $2, $1`,
		`SELECT 1 FROM t INDEXED BY i CROSS JOIN u x ON u.a = t.a`:   `SELECT 1 FROM t JOIN u x ON u.a = t.a`,
		`SELECT 1 FROM t NOT INDEXED CROSS JOIN u WHERE n GLOB 'a*'`: `SELECT 1 FROM t CROSS JOIN u WHERE glob('a*', n)`,
		`SELECT value FROM json_each(?)`:                             `SELECT value FROM json_texts($1)`,
		`SELECT value ->> 0 FROM json_each(?1)`:                      `SELECT value ->> 0 FROM json_rows($1)`,
		`INSERT INTO t (body) VALUES (coalesce(?, x''))`:             `INSERT INTO t (body) VALUES (coalesce($1, ''::bytea))`,
	} {
		if got := translate(text); got.text != want {
			t.Errorf("%s became\n%s, not\n%s", text, got.text, want)
		}
	}
	if got := translate(`SELECT ?3, ?1`).used; len(got) != 2 || got[0] != 3 || got[1] != 1 {
		t.Errorf("the used parameters are %v", got)
	}
}

// The functions do what SQLite's do.
func TestFunctions(t *testing.T) {
	f := newFixture(t)
	for text, want := range map[string]string{
		`SELECT ?1 GLOB 'sha[25][51][62]-*'`:                      "true false",
		`SELECT CAST(instr(?1, 'a') AS TEXT)`:                     "3 2",
		`SELECT json_array(?1)`:                                   `["sha256-x.y"] ["(a)"]`,
		`SELECT ?1 GLOB '(?)'`:                                    "false true",
		`SELECT ?1 GLOB '*.y'`:                                    "true false",
		`SELECT CAST(max(CAST(length(?1) AS BIGINT), 5) AS TEXT)`: "10 5",
	} {
		var got []string
		for _, value := range []string{"sha256-x.y", "(a)"} {
			var one string
			f.must(f.Reader().QueryRow(text, value).Scan(&one))
			got = append(got, one)
		}
		if all := strings.Join(got, " "); all != want {
			t.Errorf("%s: %s, want %s", text, all, want)
		}
	}
	all, err := database.Column[string](f.ctx, f.Reader(), `SELECT value ->> 1 FROM json_each(?) ORDER BY key`, "[[1,\"b\"],[2,\"a\\u0000\"]]")
	f.must(err)
	if strings.Join(all, " ") != "b a\ufffd" {
		t.Errorf("the fields are %q", all)
	}
}
