package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"
)

// keptStatements is how many statements a connection keeps parsed. The store has about as many.
const keptStatements = 256

// statements are those that a connection has parsed and keeps for the next time: to parse one costs as much as to run
// it.
type statements struct {
	parsed map[string]*keptStmt
}

type keptStmt struct {
	*watchedStmt
	busy bool // its rows are being read
}

func (k *keptStmt) release() { k.busy = false }

// take returns the statement of a text, and nil for one that is not worth keeping or is being read from. The caller
// releases it.
func (s *statements) take(ctx context.Context, c *watchedConn, text string) (*keptStmt, error) {
	if k := s.parsed[text]; k != nil {
		if k.busy {
			return nil, nil
		}
		k.busy = true
		return k, nil
	}
	if !keepsParsed(text) {
		return nil, nil
	}
	stmt, err := c.prepare(ctx, text)
	if err != nil {
		return nil, err
	}
	if len(s.parsed) >= keptStatements {
		if err := s.close(); err != nil {
			return nil, errors.Join(err, stmt.Close())
		}
	}
	if s.parsed == nil {
		s.parsed = map[string]*keptStmt{}
	}
	k := &keptStmt{watchedStmt: stmt, busy: true}
	s.parsed[text] = k
	return k, nil
}

// keepsParsed reports whether a text is a single statement of a kind that comes again.
func keepsParsed(text string) bool {
	verb, _, _ := strings.Cut(strings.TrimLeft(text, " \t\n"), " ")
	switch verb {
	case "SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "SAVEPOINT", "RELEASE":
		return !strings.Contains(text, ";")
	}
	return false
}

// close forgets all but those that are being read from.
func (s *statements) close() error {
	var errs []error
	for text, k := range s.parsed {
		if !k.busy {
			errs = append(errs, k.Close())
			delete(s.parsed, text)
		}
	}
	return errors.Join(errs...)
}

// keptRows are rows of a kept statement.
type keptRows struct {
	driver.Rows
	kept *keptStmt
}

func (r *keptRows) Close() error {
	err := r.Rows.Close()
	r.kept.release()
	return err
}
