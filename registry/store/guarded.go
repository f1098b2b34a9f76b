package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/postgres"
)

// SwapNote is SetNote if the note is what it was, "" for none, and reports whether it is.
func (s *core) SwapNote(ctx context.Context, name, was, text string) (swapped bool, err error) {
	err = s.db.ShareFreeing(ctx, func(ctx context.Context, tx *sql.Tx) error {
		now, err := noteIn(ctx, tx, name)
		if swapped = err == nil && now == was; !swapped {
			return err
		}
		return setNote(ctx, tx, name, text)
	})
	return swapped && err == nil, err
}

func noteIn(ctx context.Context, q database.Querier, name string) (text string, err error) {
	err = q.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = ?`, name).Scan(&text)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read note %s: %w", name, err)
	}
	return text, nil
}

// guardKey is the key of the guards of a context.
type guardKey struct{}

type guarding struct {
	note  string
	check func(text string) error
	outer *guarding
}

// Guard returns a context whose writes to a store of several daemons end with the error of check. It
// gets the text of a note as it is in the transaction of the write: writes of all daemons have one
// order, so that those after a change of the note are refused, before this daemon knows of it.
func Guard(ctx context.Context, note string, check func(text string) error) context.Context {
	outer, _ := ctx.Value(guardKey{}).(*guarding)
	return context.WithValue(ctx, guardKey{}, &guarding{note, check, outer})
}

// guarded is a database whose writes look at the guards of their contexts.
type guarded struct{ *postgres.DB }

func allowed(ctx context.Context, tx *sql.Tx) error {
	g, _ := ctx.Value(guardKey{}).(*guarding)
	for ; g != nil; g = g.outer {
		text, err := noteIn(ctx, tx, g.note)
		if err == nil {
			err = g.check(text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func shares(fn func(context.Context, *sql.Tx) error) func(context.Context, *sql.Tx) error {
	return func(ctx context.Context, tx *sql.Tx) error {
		if err := allowed(ctx, tx); err != nil {
			return err
		}
		return fn(ctx, tx)
	}
}

func writes(ctx context.Context, fn func(*sql.Tx) error) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		if err := allowed(ctx, tx); err != nil {
			return err
		}
		return fn(tx)
	}
}

func (g guarded) Share(ctx context.Context, fn func(context.Context, *sql.Tx) error) error {
	return g.DB.Share(ctx, shares(fn))
}

func (g guarded) ShareFreeing(ctx context.Context, fn func(context.Context, *sql.Tx) error) error {
	return g.DB.ShareFreeing(ctx, shares(fn))
}

func (g guarded) Write(ctx context.Context, fn func(*sql.Tx) error) error {
	return g.DB.Write(ctx, writes(ctx, fn))
}

func (g guarded) WriteFreeing(ctx context.Context, fn func(*sql.Tx) error) error {
	return g.DB.WriteFreeing(ctx, writes(ctx, fn))
}
