package store

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/postgres"
	"github.com/mirror-appliance/appliance/registry/store/postgres/postgrestest"
)

// runTests runs the tests. APPLIANCE_TEST_DATABASE=postgres runs this suite on PostgreSQL. Tests of a database that is a file
// have SQLite in their name, and those of a server PostgreSQL; the other engine's do not run.
func runTests(m *testing.M) (code int, err error) {
	flag.Parse()
	ctx := context.Background()
	not := "PostgreSQL"
	switch name := os.Getenv("APPLIANCE_TEST_DATABASE"); name {
	case "":
	case "postgres", "postgres-twice":
		not = "SQLite"
		if onServer, err = startServer(ctx); err != nil {
			return 1, err
		}
		defer func() { err = errors.Join(err, onServer.Stop()) }()
	default:
		return 1, fmt.Errorf("APPLIANCE_TEST_DATABASE is %q: it is postgres, postgres-twice or empty", name)
	}
	not += "|/" + not // subtests too
	if given := flag.Lookup("test.skip").Value.String(); given != "" {
		not = given + "|" + not // first: what may skip a subtest hides what comes after it
	}
	if err := flag.Set("test.skip", not); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// rehearsing has each transaction run twice, as after a conflict with another process.
func rehearsing() bool { return os.Getenv("APPLIANCE_TEST_DATABASE") == "postgres-twice" }

// onServer is the server of this run, nil for SQLite.
var onServer *testServer

// testServer gives each directory of a test a database.
type testServer struct {
	*postgrestest.Server
	template string

	mu    sync.Mutex // guards what follows
	names map[string]string
}

// testFunctions are functions of SQLite that tests use to fill tables.
const testFunctions = `
CREATE FUNCTION printf(f text, n bigint) RETURNS text LANGUAGE sql AS
  $$ SELECT regexp_replace(f, '%0\d+[dx]', CASE WHEN f ~ 'x' AND f ~ '%0\d+x' THEN lpad(to_hex(n), substring(f from '%0(\d+)')::int, '0') ELSE lpad(n::text, substring(f from '%0(\d+)')::int, '0') END) $$;
CREATE FUNCTION printf(f text, n bigint, m bigint) RETURNS text LANGUAGE sql AS
  $$ SELECT printf(regexp_replace(f, '%0\d+[dx]', lpad(to_hex(n), substring(f from '%0(\d+)')::int, '0')), m) $$;
CREATE FUNCTION hex(b bytea) RETURNS text LANGUAGE sql AS $$ SELECT upper(encode(b, 'hex')) $$;
CREATE FUNCTION randomblob(n integer) RETURNS bytea LANGUAGE sql VOLATILE AS $$ SELECT decode(substr(md5(random()::text) || md5(random()::text), 1, 2 * n), 'hex') $$;
CREATE FUNCTION zeroblob(n integer) RETURNS bytea LANGUAGE sql AS $$ SELECT decode(repeat('00', n), 'hex') $$;
CREATE FUNCTION iif(c boolean, a bigint, b bigint) RETURNS bigint LANGUAGE sql AS $$ SELECT CASE WHEN c THEN a ELSE b END $$;
`

func startServer(ctx context.Context) (_ *testServer, err error) {
	server, err := postgrestest.Start(ctx)
	if err != nil {
		return nil, err
	}
	s := &testServer{Server: server, names: map[string]string{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, server.Stop())
		}
	}()
	s.template, err = server.Template(ctx, fillTemplate)
	return s, err
}

func fillTemplate(ctx context.Context, address string) error {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	made, err := Open(ctx, Options{Database: address, Storage: dir})
	if err != nil {
		return err
	}
	if err := made.Close(); err != nil {
		return err
	}
	db, err := postgres.Beside(address, nil)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, testFunctions)
	return errors.Join(err, db.Close())
}

// databaseIn returns the name of the database of a test's directory.
func databaseIn(t testing.TB, dir string) string {
	t.Helper()
	if onServer == nil {
		return filepath.Join(dir, "appliance.db")
	}
	onServer.mu.Lock()
	defer onServer.mu.Unlock()
	if onServer.names[dir] == "" {
		name, address, err := onServer.Database(context.Background(), onServer.template)
		if err != nil {
			t.Fatal(err)
		}
		onServer.names[dir] = address
		t.Cleanup(func() {
			onServer.mu.Lock()
			delete(onServer.names, dir)
			onServer.mu.Unlock()
			if err := onServer.Drop(context.Background(), name); err != nil {
				t.Error(err)
			}
		})
	}
	return onServer.names[dir]
}

// direct opens a connection beside those of the store, without its rules. The caller closes it.
func (f *fixture) direct() *sql.DB {
	f.t.Helper()
	var db *sql.DB
	var err error
	if onServer == nil {
		db, err = sql.Open("sqlite", "file:"+f.database+"?_pragma=busy_timeout(10000)")
	} else {
		db, err = postgres.Beside(databaseIn(f.t, f.dir), map[string]string{"session_replication_role": "replica"})
	}
	f.must(err)
	db.SetMaxOpenConns(1)
	return db
}

// hold keeps the writer of the store waiting until the function that it returns is called.
func (f *fixture) hold() (release func()) {
	f.t.Helper()
	db := f.direct()
	begin := `BEGIN IMMEDIATE`
	if onServer != nil {
		begin = `BEGIN; LOCK TABLE appliance_schema IN EXCLUSIVE MODE`
	}
	_, err := db.Exec(begin)
	f.must(err)
	return func() { f.must(db.Close()) }
}

// checkpoint is a statement that has the engine write what it has only in its log.
func (f *fixture) checkpoint() string {
	if onServer != nil {
		return `CHECKPOINT`
	}
	return `PRAGMA wal_checkpoint(TRUNCATE)`
}

// explain gives SQLite's plan for a query.
func (f *fixture) explain(text string, args ...any) string {
	f.t.Helper()
	var plan []string
	scan := func(rows *sql.Rows) error {
		var id, parent, unused int
		var step string
		err := rows.Scan(&id, &parent, &unused, &step)
		plan = append(plan, step)
		return err
	}
	f.must(database.Query(f.ctx, f.db.Reader(), scan, "EXPLAIN QUERY PLAN "+text, args...))
	return strings.Join(plan, "\n")
}
