package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
)

// Blob is an opened blob, to be read and closed. It stays whole when the blob is deleted meanwhile.
type Blob struct {
	*os.File
	Size int64
}

// StatBlob says how large a blob of repo is. It counts as a check: a client that got an answer may put a
// manifest that needs the blob, so collection spares it for its grace period.
func (s *Store) StatBlob(ctx context.Context, repo string, d digest.Digest) (int64, error) {
	if err := checkRepositoryAndDigest(repo, d); err != nil {
		return 0, err
	}
	for {
		epoch := s.guard.currentEpoch()
		var size int64
		err := s.reads.blob.QueryRowContext(ctx, repo, d).Scan(&size)
		if err != nil {
			return 0, orNotFound(err, "blob", d.String())
		}
		gone, again := s.guard.check(d, epoch)
		if gone {
			return 0, &NotFoundError{Kind: "blob", Name: d.String()}
		}
		if !again {
			return size, nil
		}
	}
}

// OpenBlob opens a blob of repo. It counts as a check, as StatBlob does.
func (s *Store) OpenBlob(ctx context.Context, repo string, d digest.Digest) (*Blob, error) {
	size, err := s.StatBlob(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(s.files.blob(d))
	if errors.Is(err, fs.ErrNotExist) {
		// Collected since, which takes a grace period of nothing; or lost, and then it is not held either.
		if _, again := s.StatBlob(ctx, repo, d); again != nil {
			return nil, again
		}
		s.log.Error("a blob's file is missing", "digest", d, "path", s.files.blob(d))
	}
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", d, err)
	}
	if err := wholeFile(f, size); err != nil {
		s.log.Error("a blob's file is damaged", "digest", d, "path", f.Name(), "error", err)
		return nil, errors.Join(fmt.Errorf("open blob %s: %w", d, err), f.Close())
	}
	return &Blob{File: f, Size: size}, nil
}

// wholeFile says whether a file has the size that its row says. A shorter one would be served as if it were whole.
func wholeFile(f *os.File, size int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != size {
		return fmt.Errorf("%s has %d bytes and should have %d: `appliance scrub` takes it out of service", f.Name(), info.Size(), size)
	}
	return nil
}

// MountBlob makes a blob of from visible in repo; from "" means wherever it is held. ErrNotFound when it is not.
func (s *Store) MountBlob(ctx context.Context, repo, from string, d digest.Digest) (int64, error) {
	if err := checkRepositoryAndDigest(repo, d); err != nil {
		return 0, err
	}
	text, args := visibleBlob, []any{from, d}
	if from == "" {
		text, args = `SELECT size FROM blobs WHERE digest = ?`, []any{d}
	}
	if err := s.space.check(s.database, 0); err != nil {
		return 0, fmt.Errorf("mount blob %s: %w", d, err)
	}
	var size int64
	// The link protects the blob from collection: both are write transactions, so one sees the other.
	err := s.share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := tx.QueryRowContext(ctx, text, args...).Scan(&size); err != nil {
			return orNotFound(err, "blob", d.String())
		}
		id, err := s.ensureRepository(ctx, tx, repo)
		if err != nil {
			return err
		}
		return s.linkBlob(ctx, tx, id, d)
	})
	return size, err
}

// DeleteBlob takes a blob out of repo. Where a manifest of repo is made of it, it stays visible until that
// manifest goes; its bytes go when collection finds that nothing refers to them.
func (s *Store) DeleteBlob(ctx context.Context, repo string, d digest.Digest) error {
	if err := checkRepositoryAndDigest(repo, d); err != nil {
		return err
	}
	return s.shareFreeing(ctx, func(ctx context.Context, tx *sql.Tx) error {
		n, err := affected(ctx, tx, `DELETE FROM repository_blobs
			WHERE digest = ? AND repository = (SELECT id FROM repositories WHERE name = ?)`, d, repo)
		if err == nil && n == 0 {
			return &NotFoundError{Kind: "blob", Name: d.String()}
		}
		return err
	})
}

// linkFunc writes who has a blob, in the transaction that writes its row.
type linkFunc func(ctx context.Context, tx *sql.Tx) error

// keep moves a synced upload file to where d is kept and then commits its row, with whatever link writes.
func (s *Store) keep(ctx context.Context, from string, d digest.Digest, size int64, link linkFunc) error {
	if err := s.guard.enter(ctx, d); err != nil {
		return err
	}
	defer s.guard.leave(d)
	if err := s.files.place(from, d); err != nil {
		return full(s.files.root, 0, err)
	}
	return s.share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO blobs (digest, size, created) VALUES (?, ?, ?)
			ON CONFLICT (digest) DO NOTHING`, d, size, nanos(s.now()))
		if err != nil {
			return fmt.Errorf("write row of blob %s: %w", d, err)
		}
		return link(ctx, tx)
	})
}

// linkBlob makes a held blob visible in a repository, as of now.
func (s *Store) linkBlob(ctx context.Context, tx *sql.Tx, repository int64, d digest.Digest) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO repository_blobs (repository, digest, linked) VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET linked = excluded.linked`, repository, d, nanos(s.now()))
	if err != nil {
		return fmt.Errorf("link blob %s: %w", d, err)
	}
	return nil
}

// ensureRepository gives the row of a repository, making it when it is not there.
func (s *Store) ensureRepository(ctx context.Context, tx *sql.Tx, name string) (int64, error) {
	id, err := repositoryID(ctx, tx, name)
	if !errors.Is(err, ErrNotFound) {
		return id, err
	}
	err = tx.QueryRowContext(ctx, `INSERT INTO repositories (name, created) VALUES (?, ?) RETURNING id`,
		name, nanos(s.now())).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("make repository %s: %w", name, err)
	}
	return id, nil
}

func repositoryID(ctx context.Context, q querier, name string) (int64, error) {
	var id int64
	err := q.QueryRowContext(ctx, `SELECT id FROM repositories WHERE name = ?`, name).Scan(&id)
	return id, orNotFound(err, "repository", name)
}
