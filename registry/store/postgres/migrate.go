package postgres

import (
	"context"
	_ "embed" // the functions
	"fmt"
	"io/fs"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

//go:embed functions.sql
var functions string

// migrate runs the missing migrations, each in its own transaction.
func (db *DB) migrate(ctx context.Context, o Options) error {
	names, err := fs.Glob(o.Migrations, "*.sql") // which come in order
	if err != nil {
		return err
	}
	var have int
	if err := db.writer.QueryRowContext(ctx, `SELECT version FROM appliance_schema`).Scan(&have); err != nil {
		return err
	}
	if have > len(names) || o.Current && have > 0 && have < len(names) {
		return &database.SchemaError{Path: db.server.name, Have: have, Known: len(names)}
	}
	if have == 0 && o.Fresh != nil {
		if err := o.Fresh(); err != nil {
			return err
		}
	}
	if err := db.run(ctx, functions); err != nil {
		return fmt.Errorf("make the functions of database %s: %w", db.server.name, err)
	}
	for version := have + 1; version <= len(names); version++ {
		text, err := fs.ReadFile(o.Migrations, names[version-1])
		if err != nil {
			return err
		}
		if err := db.run(ctx, fmt.Sprintf("%s;\nUPDATE appliance_schema SET version = %d", text, version)); err != nil {
			return fmt.Errorf("migrate database %s to %s: %w", db.server.name, names[version-1], err)
		}
	}
	if err := db.run(ctx, triggers(o.Watched)); err != nil {
		return fmt.Errorf("make the triggers of database %s: %w", db.server.name, err)
	}
	return nil
}

// run runs statements in one transaction.
func (db *DB) run(ctx context.Context, text string) error {
	tx, err := db.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	if _, err := tx.ExecContext(ctx, text+";"); err != nil {
		return err
	}
	return tx.Commit()
}
