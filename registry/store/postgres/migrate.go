package postgres

import (
	"context"
	"crypto/sha256"
	_ "embed" // the functions
	"encoding/hex"
	"fmt"
	"io/fs"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

//go:embed functions.sql
var functions string

// Schema is what a database has, and what this program has: the versions of both lists of migrations,
// and a digest of what is made anew with each version of the program.
type Schema struct {
	Version, Own int
	Made         string
}

// known returns the schema of this program.
func (o *Options) known() (Schema, error) {
	shared, err := migrationsOf(o.Migrations)
	if err != nil {
		return Schema{}, err
	}
	own, err := migrationsOf(o.Own)
	if err != nil {
		return Schema{}, err
	}
	return Schema{len(shared), len(own), digestOf(functions, members, telling, triggers(o.Watched))}, nil
}

// migrationsOf lists the files of a list in order.
func migrationsOf(list fs.FS) ([]string, error) {
	if list == nil {
		return nil, nil
	}
	return fs.Glob(list, "*.sql")
}

func digestOf(texts ...string) string {
	h := sha256.New()
	for _, text := range texts {
		h.Write([]byte(text + "\x00"))
	}
	return hex.EncodeToString(h.Sum(nil))
}

const selectSchema = `SELECT version, own, made FROM appliance_schema`

// migrate runs the missing migrations, each in its own transaction: those of all engines first, which
// know nothing of this engine's own.
func (db *DB) migrate(ctx context.Context, o Options) error {
	known, err := o.known()
	if err != nil {
		return err
	}
	var have Schema
	if err := db.writer.QueryRowContext(ctx, selectSchema).Scan(&have.Version, &have.Own, &have.Made); err != nil {
		return err
	}
	older := have.Version < known.Version || have.Own < known.Own
	if have.Version > known.Version || have.Own > known.Own || o.Current && have.Version > 0 && older {
		return &database.SchemaError{Path: db.server.name, Have: have.Version + have.Own, Known: known.Version + known.Own}
	}
	if have.Version == 0 && o.Fresh != nil {
		if err := o.Fresh(); err != nil {
			return err
		}
	}
	if have == known {
		return nil
	}
	if err := db.run(ctx, functions+";"+members+telling); err != nil {
		return fmt.Errorf("make the functions of database %s: %w", db.server.name, err)
	}
	for _, list := range []struct {
		files  fs.FS
		column string
		have   int
	}{{o.Migrations, "version", have.Version}, {o.Own, "own", have.Own}} {
		if err := db.migrateList(ctx, list.files, list.column, list.have); err != nil {
			return err
		}
	}
	if err := db.run(ctx, triggers(o.Watched)+fmt.Sprintf("UPDATE appliance_schema SET made = '%s'", known.Made)); err != nil {
		return fmt.Errorf("make the triggers of database %s: %w", db.server.name, err)
	}
	return nil
}

// migrateList runs the migrations of a list after the first have.
func (db *DB) migrateList(ctx context.Context, list fs.FS, column string, have int) error {
	names, err := migrationsOf(list)
	if err != nil {
		return err
	}
	for version := have + 1; version <= len(names); version++ {
		text, err := fs.ReadFile(list, names[version-1])
		if err != nil {
			return err
		}
		if err := db.run(ctx, fmt.Sprintf("%s;\nUPDATE appliance_schema SET %s = %d", text, column, version)); err != nil {
			return fmt.Errorf("migrate database %s to %s: %w", db.server.name, names[version-1], err)
		}
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
