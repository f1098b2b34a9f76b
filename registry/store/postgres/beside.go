package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
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
	have, err := versionOf(ctx, db, address)
	if err != nil {
		return nil, err
	}
	if have != known {
		name, err := Name(address)
		return nil, errors.Join(err, &database.SchemaError{Path: name, Have: have, Known: known})
	}
	return db, nil
}

// versionOf returns the version of a database. *database.NotDatabaseError.
func versionOf(ctx context.Context, db *sql.DB, address string) (have int, err error) {
	var ours bool
	if err := db.QueryRowContext(ctx, `SELECT to_regclass('appliance_schema') IS NOT NULL`).Scan(&ours); err != nil {
		return 0, err
	}
	if ours {
		if err := db.QueryRowContext(ctx, `SELECT version FROM appliance_schema`).Scan(&have); err != nil {
			return 0, err
		}
	}
	if have == 0 {
		name, err := Name(address)
		return 0, errors.Join(err, &database.NotDatabaseError{Path: name, Reason: "it has none of its tables", Next: "check `database:` in config.yaml: an appliance that has run made the tables"})
	}
	return have, nil
}

// State is a database as another process sees it.
type State struct {
	Have, Known Schema   // of the database, and of this program
	Daemons     []string // HOST (process N) of the processes that have it open
}

// Look looks at a database, also while DBs of other processes have it, and changes nothing. Of the options count those
// that make the schema. *database.NotDatabaseError, *database.UnavailableError.
func Look(ctx context.Context, o Options) (at State, err error) {
	if at.Known, err = o.known(); err != nil {
		return at, err
	}
	db, err := Beside(o.Address, map[string]string{"default_transaction_read_only": "on", "client_min_messages": "warning"})
	if err != nil {
		return at, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := versionOf(ctx, db, o.Address); err != nil {
		return at, err
	}
	// A database of an early version lacks columns, and so the schema of what is made anew.
	row := `SELECT coalesce((j->>'version')::int, 0), coalesce((j->>'own')::int, 0), coalesce(j->>'made', '') FROM (SELECT to_jsonb(s) AS j FROM appliance_schema s) of`
	if err := db.QueryRowContext(ctx, row).Scan(&at.Have.Version, &at.Have.Own, &at.Have.Made); err != nil {
		return at, err
	}
	at.Daemons, err = database.Column[string](ctx, db, holding(fmt.Sprint(lockKey), schemaKey))
	return at, err
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
