package database

import (
	"context"
	"database/sql"
	"time"
)

// Querier is what *sql.DB and *sql.Tx have in common.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Query runs a query and calls scan for each row. It has read all rows when it returns, and
// the connection is free.
func Query(ctx context.Context, q Querier, scan func(*sql.Rows) error, text string, args ...any) error {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// List returns the rows of a query, never nil. columns returns the variables of one row.
func List[T any](ctx context.Context, q Querier, columns func(*T) []any, text string, args ...any) ([]T, error) {
	all := []T{}
	err := Query(ctx, q, func(rows *sql.Rows) error {
		var one T
		err := rows.Scan(columns(&one)...)
		all = append(all, one)
		return err
	}, text, args...)
	return all, err
}

// Column returns the rows of a query with one column.
func Column[T any](ctx context.Context, q Querier, text string, args ...any) ([]T, error) {
	return List(ctx, q, func(one *T) []any { return []any{one} }, text, args...)
}

// Exists reports whether a query has a row.
func Exists(ctx context.Context, q Querier, text string, args ...any) (bool, error) {
	var found bool
	err := q.QueryRowContext(ctx, "SELECT EXISTS ("+text+")", args...).Scan(&found)
	return found, err
}

// Affected runs a statement and returns how many rows it changed.
func Affected(ctx context.Context, tx *sql.Tx, text string, args ...any) (int64, error) {
	result, err := tx.ExecContext(ctx, text, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// Nanos returns t as it is in the database; the zero time is 0.
func Nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// Time returns the time that Nanos was given.
func Time(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
