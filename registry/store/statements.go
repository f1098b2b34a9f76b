package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"
)

// knownStatements is how many statements a connection keeps parsed. The store has about as many.
const knownStatements = 256

// statements are those that a connection has parsed and keeps for the next time: to parse one costs as much as to run it
// does. It stands below database/sql, whose prepared statements would have to be made before the transaction that needs
// them, each and have a name of its own.
type statements struct {
	parsed map[string]*known
}

type known struct {
	*watchedStmt
	busy bool // its rows are being read
}

func (k *known) release() { k.busy = false }

// take gives the statement of a text, nil for one that is not worth keeping or is being read from. The caller releases it.
func (s *statements) take(ctx context.Context, c *watchedConn, text string) (*known, error) {
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
	if len(s.parsed) >= knownStatements {
		if err := s.close(); err != nil {
			return nil, errors.Join(err, stmt.Close())
		}
	}
	if s.parsed == nil {
		s.parsed = map[string]*known{}
	}
	k := &known{watchedStmt: stmt, busy: true}
	s.parsed[text] = k
	return k, nil
}

// keepsParsed says that a text is a single statement of those that come again.
func keepsParsed(text string) bool {
	verb, _, _ := strings.Cut(strings.TrimLeft(text, " \t\n"), " ")
	switch verb {
	case "SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "SAVEPOINT", "RELEASE":
		return !strings.Contains(text, ";")
	}
	return false
}

// close forgets all but what is being read from.
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

// knownRows are rows of a known statement.
type knownRows struct {
	driver.Rows
	known *known
}

func (r *knownRows) Close() error {
	err := r.Rows.Close()
	r.known.release()
	return err
}

// Close closes a connection, which it does only once its statements are closed.
func (c *watchedConn) Close() error { return errors.Join(c.known.close(), c.connection.Close()) }
