// Package sharedrows has the rows that several daemons with one database share beside the content: the
// sealed certificates, the logins of the console, the misses, the hostname, and what work on request has come to. One
// daemon has these in files, in memory and in a note.
//
// New returns them; the tables are PostgreSQL's alone. Nothing is kept in memory, so that each method
// answers what any daemon has written before. Refused: notes of the store (package store, SetNote):
// followers and copies of a store read those.
package sharedrows

import (
	"context"
	"database/sql"
	"errors"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Set has what daemons share.
type Set struct {
	Sealed   *Sealed
	Logins   *Logins
	Misses   *Misses
	Hostname *Hostname
	Work     *Work
}

// New returns the rows of a database of PostgreSQL.
func New(db database.Rows) *Set {
	return &Set{&Sealed{db}, &Logins{db}, &Misses{db}, &Hostname{db}, &Work{db}}
}

// Sealed are encrypted texts by their names, see registry/sealed.
type Sealed struct{ db database.Rows }

// Value is an encrypted text, and the id of the key that it was encrypted with.
type Value struct {
	Key  string
	Data []byte
}

// Get returns a value, nil if there is none.
func (s *Sealed) Get(ctx context.Context, name string) (*Value, error) {
	return valueIn(ctx, s.db.Reader(), name)
}

func valueIn(ctx context.Context, q database.Querier, name string) (*Value, error) {
	var v Value
	err := q.QueryRowContext(ctx, `SELECT key, value FROM sealed WHERE name = ?`, name).Scan(&v.Key, &v.Data)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &v, err
}

// Add adds a value unless there is one by that name, and returns what there is then: of daemons that
// add at once, all get the first.
func (s *Sealed) Add(ctx context.Context, name string, v Value) (there *Value, err error) {
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO sealed (name, key, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, name, v.Key, v.Data)
		if err == nil {
			there, err = valueIn(ctx, tx, name)
		}
		return err
	})
	return there, err
}

// Put writes a value that depends on another, which has to be what it was read as. It reports whether
// it is, and writes nothing otherwise.
func (s *Sealed) Put(ctx context.Context, name string, v Value, on string, was Value) (put bool, err error) {
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		n, err := database.Affected(ctx, tx, `INSERT INTO sealed (name, key, value) SELECT CAST(?1 AS TEXT), CAST(?2 AS TEXT), CAST(?3 AS BYTEA) FROM sealed WHERE name = ?4 AND key = ?5 AND value = ?6
			ON CONFLICT (name) DO UPDATE SET key = excluded.key, value = excluded.value`, name, v.Key, v.Data, on, was.Key, was.Data)
		put = n > 0
		return err
	})
	return put && err == nil, err
}

// Clear deletes all values, and returns how many there were.
func (s *Sealed) Clear(ctx context.Context) (n int64, err error) {
	err = s.db.WriteFreeing(ctx, func(tx *sql.Tx) error {
		n, err = database.Affected(ctx, tx, `DELETE FROM sealed`)
		return err
	})
	return n, err
}
