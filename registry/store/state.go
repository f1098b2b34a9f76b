package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
)

// Secret gives the secret of that name: 32 random bytes, made when it is first asked for, kept ever after.
func (s *Store) Secret(ctx context.Context, name string) ([]byte, error) {
	if name == "" {
		return nil, &InvalidError{What: "secret", Why: "it has no name"}
	}
	const selectSecret = `SELECT value FROM secrets WHERE name = ?`
	var secret []byte
	err := s.reader.QueryRowContext(ctx, selectSecret, name).Scan(&secret)
	if !errors.Is(err, sql.ErrNoRows) {
		return secret, orNotFound(err, "secret", name)
	}
	fresh := make([]byte, 32)
	if _, err := rand.Read(fresh); err != nil {
		return nil, fmt.Errorf("make secret %s: %w", name, err)
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO secrets (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING`, name, fresh)
		if err != nil {
			return fmt.Errorf("make secret %s: %w", name, err)
		}
		// Another request may have made it first.
		return orNotFound(tx.QueryRowContext(ctx, selectSecret, name).Scan(&secret), "secret", name)
	})
	return secret, err
}

// Stats counts what is held.
type Stats struct {
	Repositories int64 // that have a manifest
	Manifests    int64
	Tags         int64
	Blobs        int64
	BlobBytes    int64
	Users        int64
}

// Stats counts what is held.
func (s *Store) Stats(ctx context.Context) (Stats, error) {
	var n Stats
	err := s.reader.QueryRowContext(ctx, `SELECT
		(SELECT count(DISTINCT repository) FROM repository_manifests),
		(SELECT count(*) FROM manifests),
		(SELECT count(*) FROM tags),
		(SELECT count(*) FROM blobs),
		(SELECT coalesce(sum(size), 0) FROM blobs),
		(SELECT count(*) FROM users)`).
		Scan(&n.Repositories, &n.Manifests, &n.Tags, &n.Blobs, &n.BlobBytes, &n.Users)
	if err != nil {
		return Stats{}, fmt.Errorf("count what is held: %w", err)
	}
	return n, nil
}

// Check says for "database" and "storage" whether they answer: a nil error is a healthy part.
func (s *Store) Check(ctx context.Context) map[string]error {
	var one int
	err := s.reader.QueryRowContext(ctx, `SELECT 1 FROM pragma_user_version`).Scan(&one)
	if err != nil {
		err = fmt.Errorf("database %s does not answer: %w", s.database, err)
	}
	return map[string]error{"database": err, "storage": s.files.check()}
}
