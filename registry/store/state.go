package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"syscall"
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
	Quarantined  int64 // blobs that are damaged and out of service
	Users        int64
}

// Stats counts what is held, which takes longer the more that is: some 0.3 s for a million manifests.
func (s *Store) Stats(ctx context.Context) (Stats, error) {
	var n Stats
	err := s.reader.QueryRowContext(ctx, `SELECT
		(SELECT count(*) FROM repositories r WHERE EXISTS (SELECT 1 FROM repository_manifests m WHERE m.repository = r.id)),
		(SELECT count(*) FROM manifests),
		(SELECT count(*) FROM tags),
		b.n, b.bytes,
		(SELECT count(*) FROM quarantine),
		(SELECT count(*) FROM users)
		FROM (SELECT count(*) AS n, coalesce(sum(size), 0) AS bytes FROM blobs) b`).
		Scan(&n.Repositories, &n.Manifests, &n.Tags, &n.Blobs, &n.BlobBytes, &n.Quarantined, &n.Users)
	if err != nil {
		return Stats{}, fmt.Errorf("count what is held: %w", err)
	}
	return n, nil
}

// Note gives what SetNote was last given under a name, "" at first.
func (s *Store) Note(ctx context.Context, name string) (string, error) {
	var value string
	err := s.reader.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = ?`, name).Scan(&value)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read note %s: %w", name, err)
	}
	return value, nil
}

// SetNote writes down what a job wants to know after a restart, on a full disk too.
func (s *Store) SetNote(ctx context.Context, name, value string) error {
	err := s.shareFreeing(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value`, name, value)
		return err
	})
	if err != nil {
		return fmt.Errorf("write note %s: %w", name, err)
	}
	return nil
}

// Space is the room on the file system of a path.
type Space struct {
	Path string
	Free int64 // bytes, with those that are free within the database
	Kept int64 // bytes of it that pushes leave alone

	// Of its inodes. Inodes is 0 for a file system that has no limit, as btrfs has none.
	Inodes, FreeInodes, KeptInodes int64
}

// Space looks at the file system of the blobs, and at that of the database if it is another.
func (s *Store) Space() ([]Space, error) {
	var all []Space
	var storage, database syscall.Stat_t
	if err := errors.Join(syscall.Stat(s.files.Root(), &storage), syscall.Stat(s.database, &database)); err != nil {
		return nil, fmt.Errorf("look at the free space: %w", err)
	}
	paths := []string{s.files.Root()}
	if storage.Dev != database.Dev {
		paths = append(paths, s.database)
	}
	for _, path := range paths {
		free, total, err := s.space.statfs(path)
		if err != nil {
			return nil, fmt.Errorf("look at the free space of %s: %w", path, err)
		}
		freeInodes, inodes, err := inodes(path)
		if err != nil {
			return nil, fmt.Errorf("look at the free inodes of %s: %w", path, err)
		}
		all = append(all, Space{Path: path, Free: free + s.space.within(path), Kept: s.space.kept(total),
			Inodes: inodes, FreeInodes: freeInodes, KeptInodes: keptOf(inodes)})
	}
	return all, nil
}

// DatabaseBytes are the sizes of the database and of its WAL.
func (s *Store) DatabaseBytes() (database, wal int64) {
	for path, size := range map[string]*int64{s.database: &database, s.database + "-wal": &wal} {
		if info, err := os.Stat(path); err == nil { // a WAL need not be there
			*size = info.Size()
		}
	}
	return database, wal
}

// Check says for "database" and "storage" whether they answer: a nil error is a healthy part.
func (s *Store) Check(ctx context.Context) map[string]error {
	var one int
	err := s.reader.QueryRowContext(ctx, `SELECT 1 FROM pragma_user_version`).Scan(&one)
	if err != nil {
		err = fmt.Errorf("database %s does not answer: %w", s.database, err)
	}
	return map[string]error{"database": err, "storage": full(s.files.Root(), 0, s.files.CheckWritable())}
}
