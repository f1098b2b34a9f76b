package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
)

// inConnection gives one connection of the writer, and the statements that it keeps.
func (f *fixture) inConnection(do func(conn *sql.Conn, kept statements)) {
	f.t.Helper()
	conn, err := f.writer.Conn(f.ctx)
	f.must(err)
	defer conn.Close()
	f.must(conn.Raw(func(c any) error {
		w := c.(*watchedConn)
		f.must(w.parsed.close())
		return nil
	}))
	var kept statements
	f.must(conn.Raw(func(c any) error { kept = c.(*watchedConn).parsed; return nil }))
	do(conn, kept)
}

func TestStatements_areParsedOnce(t *testing.T) {
	f := newFixture(t)
	f.inConnection(func(conn *sql.Conn, kept statements) {
		for i := range 3 {
			_, err := conn.ExecContext(f.ctx, `INSERT INTO notes (name, value) VALUES (?, ?)`, fmt.Sprint(i), i)
			f.must(err)
			var n int
			f.must(conn.QueryRowContext(f.ctx, `SELECT count(*) FROM notes WHERE name < ?`, "9").Scan(&n))
			if n != i+1 {
				t.Errorf("after %d rows there are %d", i+1, n)
			}
		}
		if len(kept) != 2 {
			t.Errorf("%d statements are kept", len(kept))
		}
		// What it keeps does not outlive an error, and an error does not make it useless.
		_, err := conn.ExecContext(f.ctx, `INSERT INTO notes (name, value) VALUES (?, ?)`, "1", 1)
		if err == nil {
			t.Error("the same name is taken twice")
		}
		_, err = conn.ExecContext(f.ctx, `INSERT INTO notes (name, value) VALUES (?, ?)`, "7", 7)
		f.must(err)
	})
}

// A statement that is being read from is not begun again under its reader.
func TestStatements_readTwiceAtOnce(t *testing.T) {
	f := newFixture(t)
	f.inConnection(func(conn *sql.Conn, _ statements) {
		const numbers = `SELECT value FROM json_each('[1,2,3]') WHERE value > ?`
		outer, err := conn.QueryContext(f.ctx, numbers, 0)
		f.must(err)
		defer outer.Close()
		var got []int
		for outer.Next() {
			var n, m int
			f.must(outer.Scan(&n))
			err := conn.QueryRowContext(f.ctx, numbers, n).Scan(&m)
			if n < 3 && (err != nil || m != n+1) || n == 3 && !errors.Is(err, sql.ErrNoRows) {
				t.Errorf("after %d comes %d, %v", n, m, err)
			}
			got = append(got, n)
		}
		f.must(outer.Err())
		if len(got) != 3 {
			t.Errorf("read %v", got)
		}
	})
}

func TestStatements_areBounded(t *testing.T) {
	f := newFixture(t)
	f.inConnection(func(conn *sql.Conn, kept statements) {
		rows, err := conn.QueryContext(f.ctx, `SELECT 1 UNION SELECT 2`)
		f.must(err)
		defer rows.Close()
		for i := range 2 * keptStatements {
			var n int
			f.must(conn.QueryRowContext(f.ctx, fmt.Sprintf(`SELECT %d`, i)).Scan(&n))
			if n != i {
				t.Fatalf("%d is %d", i, n)
			}
			if len(kept) > keptStatements {
				t.Fatalf("%d statements are kept", len(kept))
			}
		}
		n := 0
		for rows.Next() {
			n++
		}
		if n != 2 || rows.Err() != nil {
			t.Errorf("a reader from before has %d rows, %v", n, rows.Err())
		}
	})
}

// A context that has ended ends a statement, whether or not it is kept.
func TestStatements_endWithTheContext(t *testing.T) {
	f := newFixture(t)
	f.inConnection(func(conn *sql.Conn, _ statements) {
		ended, cancel := context.WithCancel(f.ctx)
		cancel()
		for range 2 {
			if _, err := conn.ExecContext(ended, `DELETE FROM notes`); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			_, err := conn.ExecContext(f.ctx, `DELETE FROM notes`)
			f.must(err)
		}
	})
}
