package store

import (
	"context"
	"database/sql"
	"fmt"
)

// quarantineRow takes a blob out of service: its row goes to quarantine, and with it what links it.
func (s *Store) quarantineRow(ctx context.Context, tx *sql.Tx, b sized, cause string) error {
	for _, step := range []struct {
		text string
		args []any
	}{
		{`INSERT INTO quarantine (digest, size, cause, since) VALUES (?, ?, ?, ?)`, []any{b.digest, b.size, cause, nanos(s.now())}},
		{`INSERT INTO quarantine_links (digest, repository, linked)
			SELECT digest, repository, linked FROM repository_blobs WHERE digest = ?`, []any{b.digest}},
		// A run that has counted on it is told that it is missing when it puts the manifest.
		{`DELETE FROM run_blobs WHERE digest = ?`, []any{b.digest}},
		{`DELETE FROM blobs WHERE digest = ?`, []any{b.digest}},
	} {
		if _, err := tx.ExecContext(ctx, step.text, step.args...); err != nil {
			return fmt.Errorf("quarantine blob %s: %w", b.digest, err)
		}
	}
	return nil
}
