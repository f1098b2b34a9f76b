package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"

	"github.com/mirror-appliance/appliance/internal/diskspace"
)

// Secret gives the secret of that name: 32 random bytes, made when it is first asked for, kept ever after.
func (s *Store) Secret(ctx context.Context, name string) ([]byte, error) {
	if name == "" {
		return nil, &InvalidError{What: "secret", Reason: "it has no name"}
	}
	const selectSecret = `SELECT value FROM secrets WHERE name = ?`
	var secret []byte
	err := s.db.Reader().QueryRowContext(ctx, selectSecret, name).Scan(&secret)
	if !errors.Is(err, sql.ErrNoRows) {
		return secret, orNotFound(err, "secret", name)
	}
	fresh := make([]byte, 32)
	if _, err := rand.Read(fresh); err != nil {
		return nil, fmt.Errorf("make secret %s: %w", name, err)
	}
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO secrets (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING`, name, fresh)
		if err != nil {
			return fmt.Errorf("make secret %s: %w", name, err)
		}
		// Another request may have made it first.
		return orNotFound(tx.QueryRowContext(ctx, selectSecret, name).Scan(&secret), "secret", name)
	})
	return secret, err
}

// Stats counts the content of a store.
type Stats struct {
	Repositories int64 // that have a manifest
	Manifests    int64
	Tags         int64
	Blobs        int64
	BlobBytes    int64
	Quarantined  int64 // blobs that are damaged and out of service
	Users        int64
}

// Stats counts the content. The time grows with it: some 0.3 s for a million manifests.
func (s *Store) Stats(ctx context.Context) (Stats, error) {
	var n Stats
	err := s.db.Reader().QueryRowContext(ctx, `SELECT
		(SELECT count(*) FROM repositories r WHERE EXISTS (SELECT 1 FROM repository_manifests m WHERE m.repository = r.id)),
		(SELECT count(*) FROM manifests),
		(SELECT count(*) FROM tags),
		b.n, b.bytes,
		(SELECT count(*) FROM quarantine),
		(SELECT count(*) FROM users)
		FROM (SELECT count(*) AS n, coalesce(sum(size), 0) AS bytes FROM blobs) b`).
		Scan(&n.Repositories, &n.Manifests, &n.Tags, &n.Blobs, &n.BlobBytes, &n.Quarantined, &n.Users)
	if err != nil {
		return Stats{}, fmt.Errorf("count content: %w", err)
	}
	return n, nil
}

// Note gives what SetNote was last given under a name, "" at first.
func (s *Store) Note(ctx context.Context, name string) (string, error) {
	var value string
	err := s.db.Reader().QueryRowContext(ctx, `SELECT value FROM meta WHERE name = ?`, name).Scan(&value)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read note %s: %w", name, err)
	}
	return value, nil
}

// SetNote writes down what a job wants to know after a restart, on a full disk too.
func (s *Store) SetNote(ctx context.Context, name, value string) error {
	err := s.db.ShareFreeing(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value`, name, value)
		return err
	})
	if err != nil {
		return fmt.Errorf("write note %s: %w", name, err)
	}
	return nil
}

// Space returns how much is free on the file system of the blobs, and on that of the database if it is another.
func (s *Store) Space() ([]diskspace.Space, error) {
	paths := []string{s.files.Root()}
	same, err := diskspace.Same(s.files.Root(), s.database)
	if err != nil {
		return nil, err
	}
	if !same {
		paths = append(paths, s.database)
	}
	all := make([]diskspace.Space, len(paths))
	for i, path := range paths {
		if all[i], err = s.space.Space(path); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// CheckSpace fails with a *FullError when a push would be refused, however small, because the disk is full.
func (s *Store) CheckSpace() error { return s.checkNewFile(0) }

// checkSpace fails with a *FullError when there is not enough space for need bytes of a blob, or for its row.
func (s *core) checkSpace(need int64) error {
	if err := s.space.Check(s.files.Root(), need); err != nil {
		return err
	}
	return s.space.Check(s.database, 0)
}

// checkNewFile is checkSpace for a blob that needs files of its own.
func (s *core) checkNewFile(need int64) error {
	if err := s.space.CheckInodes(s.files.Root()); err != nil {
		return err
	}
	return s.checkSpace(need)
}

// DatabaseBytes returns the sizes of the database and of its WAL.
func (s *Store) DatabaseBytes() (database, wal int64) { return s.db.Bytes() }

// Damage returns a *CorruptError if the database has been found damaged since Open, and nil otherwise.
func (s *Store) Damage() error { return s.db.Damage() }

// Check returns the error of "database" and of "storage": nil for a healthy part.
func (s *Store) Check(ctx context.Context) map[string]error {
	return map[string]error{"database": s.db.Check(ctx), "storage": diskspace.Full(s.files.Root(), 0, s.files.CheckWritable())}
}

// Maintain is called on a schedule, while the store is in use. It writes down what was read lately, finishes what was
// cut short, and maintains the database.
func (s *Store) Maintain(ctx context.Context) error {
	var errs []error
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"write down what was used", s.saveUses},
		{"finish what was cut short", s.finishAll},
		{"maintain the database", s.db.Maintain},
	} {
		if err := step.do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", step.what, err))
		}
	}
	return errors.Join(errs...)
}
