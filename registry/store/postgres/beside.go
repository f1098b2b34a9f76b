package postgres

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Beside opens connections beside those of a DB, which have neither its lock nor its rules, and
// settings of their own.
func Beside(address string, settings map[string]string) (*sql.DB, error) {
	s, c, err := beside(address)
	if err != nil {
		return nil, err
	}
	for name, value := range settings {
		c.RuntimeParams[name] = value
	}
	return sql.OpenDB(s.connector(c, false)), nil
}

func beside(address string) (*server, *pgx.ConnConfig, error) {
	c, err := parse(address)
	if err != nil {
		return nil, nil, err
	}
	configure(c)
	return newServer(c, Options{Address: address, Log: slog.New(slog.DiscardHandler)}), c, nil
}

// OpenBeside opens a database for reading, also while a DB of another process has it. Errors:
// *database.SchemaError unless it has the version known, *database.NotDatabaseError.
func OpenBeside(ctx context.Context, address string, known int) (_ *sql.DB, err error) {
	db, err := Beside(address, map[string]string{"default_transaction_read_only": "on", "client_min_messages": "warning"})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	name, err := Name(address)
	if err != nil {
		return nil, err
	}
	var ours bool
	if err := db.QueryRowContext(ctx, `SELECT to_regclass('appliance_schema') IS NOT NULL`).Scan(&ours); err != nil {
		return nil, err
	}
	have := 0
	if ours {
		if err := db.QueryRowContext(ctx, `SELECT version FROM appliance_schema`).Scan(&have); err != nil {
			return nil, err
		}
	}
	if have == 0 {
		return nil, &database.NotDatabaseError{Path: name, Reason: "it has none of its tables", Next: "check `database:` in config.yaml: an appliance that has run made the tables"}
	}
	if have != known {
		return nil, &database.SchemaError{Path: name, Have: have, Known: known}
	}
	return db, nil
}

// Name returns the address of a database without its password.
func Name(address string) (string, error) {
	c, err := parse(address)
	if err != nil {
		return "", err
	}
	return nameOf(c), nil
}

// Take takes a database from which nothing is to be changed, as Open does, until release: no daemon
// serves it meanwhile. *database.LockedError.
func Take(ctx context.Context, address string) (release func() error, err error) {
	s, c, err := beside(address)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(s.connector(c, true))
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return func() error { return errors.Join(conn.Close(), db.Close()) }, nil
}

// Text returns a text as the database has it: without a NUL, which it refuses, and in UTF-8.
func Text(text string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", "\x01"), "\ufffd") // the order stays
}
