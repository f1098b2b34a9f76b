package sqlite

import (
	"context"
	"database/sql"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Structures runs SQLite's own check, also of indexes against tables.
func (db *DB) Structures(ctx context.Context, found func(what string)) error {
	scan := func(rows *sql.Rows) error {
		var what string
		err := rows.Scan(&what)
		if err == nil && what != "ok" {
			found(what)
		}
		return err
	}
	return database.Query(ctx, db.reader, scan, `PRAGMA integrity_check(100)`)
}

// Orphans counts the rows that refer to missing rows.
func (db *DB) Orphans(ctx context.Context, found func(table, parent string, rows int64)) error {
	scan := func(rows *sql.Rows) error {
		var table, parent string
		var n int64
		err := rows.Scan(&table, &parent, &n)
		if err == nil {
			found(table, parent, n)
		}
		return err
	}
	return database.Query(ctx, db.reader, scan, `SELECT "table", parent, count(*) FROM pragma_foreign_key_check GROUP BY "table", parent`)
}
