package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Check reports whether the database answers.
func (db *DB) Check(ctx context.Context) error {
	if lost := db.keeper.lost.Load(); lost != nil {
		return lost
	}
	var one int
	if err := db.reader.QueryRowContext(ctx, `SELECT version FROM appliance_schema`).Scan(&one); err != nil {
		if errors.As(err, new(*database.UnavailableError)) { // which names the database
			return err
		}
		return fmt.Errorf("database %s does not answer: %w", db.server.name, err)
	}
	return nil
}

// Bytes returns the size of the database. Its log of writes is the server's.
func (db *DB) Bytes() (size, wal int64) {
	if err := db.reader.QueryRow(`SELECT pg_database_size(current_database())`).Scan(&size); err == nil {
		db.size.Store(size)
	}
	return db.size.Load(), 0
}

// Reusable returns 0: the database is not on this host's disks.
func (db *DB) Reusable(string) int64 { return 0 }

// Maintain gives the planner statistics of tables that autovacuum has not come to yet. The rest is
// autovacuum's.
func (db *DB) Maintain(ctx context.Context) error {
	tables, err := database.Column[string](ctx, db.reader, `SELECT quote_ident(relname) FROM pg_stat_user_tables
		WHERE schemaname = current_schema() AND last_analyze IS NULL AND last_autoanalyze IS NULL AND n_live_tup >= 50 ORDER BY relname`)
	if err != nil || len(tables) == 0 {
		return err
	}
	conn, err := db.connect(ctx, db.own.Copy()) // writes do not wait for it
	if err != nil {
		return db.server.typed(ctx, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, table := range tables {
		if _, err := conn.Exec(ctx, `ANALYZE `+table); err != nil {
			return db.server.typed(ctx, err)
		}
	}
	return nil
}

// errNoCopy is the error of what copies a database that is a file.
var errNoCopy = hint.New(errors.New("a database of PostgreSQL is not copied by the appliance"),
	"stop the appliance, run pg_dump on the database and copy the storage directory; start it again after both")

// Snapshot is refused.
func (db *DB) Snapshot(context.Context) (string, error) { return "", errNoCopy }

// RemoveSnapshot is refused.
func (db *DB) RemoveSnapshot(string) error { return errNoCopy }

// Structures finds nothing: PostgreSQL's own check is pg_amcheck, which needs an extension.
func (db *DB) Structures(context.Context, func(what string)) error { return nil }

// Orphans counts the rows that refer to missing rows, which only a damaged database has.
func (db *DB) Orphans(ctx context.Context, found func(table, parent string, rows int64)) error {
	type key struct{ table, parent, columns, parents string }
	columns := func(k *key) []any { return []any{&k.table, &k.parent, &k.columns, &k.parents} }
	keys, err := database.List(ctx, db.reader, columns, `SELECT c.conrelid::regclass::text, c.confrelid::regclass::text,
		(SELECT string_agg('t.' || quote_ident(a.attname), ', ' ORDER BY k.n) FROM unnest(c.conkey) WITH ORDINALITY k (num, n) JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.num),
		(SELECT string_agg('p.' || quote_ident(a.attname), ', ' ORDER BY k.n) FROM unnest(c.confkey) WITH ORDINALITY k (num, n) JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.num)
		FROM pg_constraint c WHERE c.contype = 'f' AND c.connamespace = current_schema()::regnamespace ORDER BY 1, 2`)
	if err != nil {
		return err
	}
	for _, k := range keys {
		var n int64
		err := db.reader.QueryRowContext(ctx, fmt.Sprintf(`SELECT count(*) FROM %s t WHERE NOT EXISTS (SELECT 1 FROM %s p WHERE (%s) = (%s))`,
			k.table, k.parent, k.parents, k.columns)).Scan(&n)
		if err != nil {
			return err
		}
		if n > 0 {
			found(k.table, k.parent, n)
		}
	}
	return nil
}

var _ database.Engine = (*DB)(nil)
