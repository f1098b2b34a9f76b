//go:build postgres

package migrations_test

import (
	"context"
	"database/sql"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/migrations"
	"github.com/mirror-appliance/appliance/registry/store/postgres"
	"github.com/mirror-appliance/appliance/registry/store/postgres/postgrestest"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// A statement of the store is one text for both engines, so both have the same tables.
func TestSchema_isThatOfBothEngines(t *testing.T) {
	names := func(all fs.FS) []string {
		found, err := fs.Glob(all, "*.sql")
		must(t, err)
		return found
	}
	ours, theirs := names(migrations.Schema().Migrations), names(migrations.Postgres())
	if !slices.Equal(ours, theirs) {
		t.Fatalf("the versions are\n%v of SQLite and\n%v of PostgreSQL", ours, theirs)
	}
	file, err := sqlite.Open(t.Context(), sqlite.Options{Path: filepath.Join(t.TempDir(), "db"), Schema: migrations.Schema()})
	must(t, err)
	defer file.Close()
	server, err := postgrestest.Start(t.Context())
	must(t, err)
	defer func() { must(t, server.Stop()) }()
	_, address, err := server.Database(t.Context(), "")
	must(t, err)
	db, err := postgres.Open(t.Context(), postgres.Options{Address: address, Migrations: migrations.Postgres(), Watched: migrations.Watched()})
	must(t, err)
	defer db.Close()
	want, got := ofSQLite(t, file.Reader()), ofPostgres(t, db.Reader())
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("PostgreSQL lacks %s", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("SQLite lacks %s", line)
		}
	}
	if len(want) < 150 {
		t.Errorf("only %d lines describe the schema", len(want))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func lines(t *testing.T, db *sql.DB, text string, args ...any) []string {
	t.Helper()
	all, err := database.Column[string](context.Background(), db, text, args...)
	must(t, err)
	return all
}

// ofSQLite describes columns, primary keys, indexes and foreign keys, one a line.
func ofSQLite(t *testing.T, db *sql.DB) (all []string) {
	for _, table := range lines(t, db, `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'`) {
		all = append(all, lines(t, db, `SELECT ?1 || '.' || name || ' ' || lower(type) || iif("notnull" OR pk, ' not null', '') || iif(dflt_value IS NULL, '', ' default ' || dflt_value) FROM pragma_table_info(?1)`, table)...)
		all = append(all, lines(t, db, `SELECT ?1 || ' key ' || group_concat(name, ', ' ORDER BY pk) FROM pragma_table_info(?1) WHERE pk > 0`, table)...)
		all = append(all, lines(t, db, `SELECT ?1 || ' index ' || iif(l."unique", 'unique ', '') || iif(l.partial, 'partial ', '') || (SELECT group_concat(name, ', ' ORDER BY seqno) FROM pragma_index_info(l.name)) FROM pragma_index_list(?1) l WHERE l.origin <> 'pk'`, table)...)
		all = append(all, lines(t, db, `SELECT ?1 || ' refers to ' || "table" || ' ' || group_concat("from", ', ' ORDER BY seq) || ' ' || lower(on_delete) FROM pragma_foreign_key_list(?1) GROUP BY id, "table", on_delete`, table)...)
	}
	return all
}

func ofPostgres(t *testing.T, db *sql.DB) (all []string) {
	for _, line := range lines(t, db, `SELECT c.relname || '.' || a.attname || ' ' || CASE format_type(a.atttypid, a.atttypmod) WHEN 'bigint' THEN 'integer' WHEN 'bytea' THEN 'blob' ELSE format_type(a.atttypid, a.atttypmod) END
			|| CASE WHEN a.attnotnull THEN ' not null' ELSE '' END || coalesce(' default ' || replace(pg_get_expr(d.adbin, d.adrelid), '::text', ''), '')
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
		WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace
		UNION ALL SELECT i.indrelid::regclass::text || CASE WHEN i.indisprimary THEN ' key ' ELSE ' index ' || CASE WHEN i.indisunique THEN 'unique ' ELSE '' END || CASE WHEN i.indpred IS NULL THEN '' ELSE 'partial ' END END
			|| (SELECT string_agg(a.attname, ', ' ORDER BY k.n) FROM unnest(i.indkey) WITH ORDINALITY k (num, n) JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num)
		FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = current_schema()::regnamespace
		UNION ALL SELECT f.conrelid::regclass::text || ' refers to ' || f.confrelid::regclass::text || ' '
			|| (SELECT string_agg(a.attname, ', ' ORDER BY k.n) FROM unnest(f.conkey) WITH ORDINALITY k (num, n) JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.num)
			|| CASE f.confdeltype WHEN 'c' THEN ' cascade' ELSE ' no action' END
		FROM pg_constraint f WHERE f.contype = 'f' AND f.connamespace = current_schema()::regnamespace`) {
		if !strings.HasPrefix(line, "appliance_schema") && !strings.HasPrefix(line, "daemons") { // the engine's own
			all = append(all, line)
		}
	}
	return all
}
