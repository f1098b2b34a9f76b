package transfer

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// noteName is the row of meta that has the mark of a target. It is not copied.
const noteName = "store copy"

// mark is the note of a target.
type mark struct {
	From   string    `json:"from"`   // the database of the source
	Config string    `json:"config"` // of the source
	To     string    `json:"to"`     // the configuration of the target
	Whole  bool      `json:"whole"`  // the copy has ended
	Digest string    `json:"digest"` // of all tables when it did
	At     time.Time `json:"at"`
}

// readMark returns the mark of a database. ok is false without one.
func readMark(ctx context.Context, q database.Querier) (m mark, ok bool, err error) {
	var text string
	err = q.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = ?`, noteName).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return m, false, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &m)
	}
	if err != nil {
		err = fmt.Errorf("read what is noted of a copy: %w", err)
	}
	return m, true, err
}

// writeMark notes a mark in a transaction.
func writeMark(ctx context.Context, tx *sql.Tx, m mark) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, noteName, string(text))
	return err
}

// Check returns an error with a hint if the database is the target of a copy that has not ended.
func Check(ctx context.Context, q database.Querier, name string) error {
	m, ok, err := readMark(ctx, q)
	if err != nil || !ok || m.Whole {
		return err
	}
	return &unfinishedError{Database: name, mark: m}
}
