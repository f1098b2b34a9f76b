package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Move is a move of a tag. Became is "" where it was deleted, Was where it did not exist.
type Move struct {
	Was, Became digest.Digest
	Moved       time.Time
	Run         PastRun // the zero value: a push or a delete
}

// Moves lists the moves of a tag, the oldest first. Of those by pushes the last are kept. A tag that
// never existed has none.
func (s *Tags) Moves(ctx context.Context, repo, tag string) ([]Move, error) {
	if err := image.CheckRepository(repo); err != nil {
		return nil, err
	}
	var all []Move
	scan := func(rows *sql.Rows) error {
		var m Move
		var moved, committed int64
		err := rows.Scan(&m.Was, &m.Became, &moved, &m.Run.ID, &m.Run.Name, &committed)
		m.Moved, m.Run.Committed = database.Time(moved), database.Time(committed)
		all = append(all, m)
		return err
	}
	err := database.Query(ctx, s.db.Reader(), scan, `SELECT h.was, h.became, h.moved, h.run, coalesce(n.name, ''), coalesce(n.committed, 0)
		FROM repositories r CROSS JOIN tag_history h ON h.repository = r.id LEFT JOIN runs n ON h.run <> '' AND n.id = h.run
		WHERE r.name = ? AND h.name = ? ORDER BY h.id`, repo, tag)
	if err != nil {
		return nil, fmt.Errorf("read the history of %s:%s: %w", repo, tag, err)
	}
	return all, nil
}

// Of lists the tags of a manifest.
func (s *Tags) Of(ctx context.Context, repo string, d digest.Digest) ([]string, error) {
	if err := checkRepositoryAndDigest(repo, d); err != nil {
		return nil, err
	}
	return database.Column[string](ctx, s.db.Reader(), `SELECT t.name FROM repositories r CROSS JOIN tags t
		WHERE r.name = ? AND t.repository = r.id AND t.digest = ? ORDER BY t.name`, repo, d)
}

// Whole reports whether a manifest exists in repo with its config and its layers. Children of an
// index are asked for one by one. Unlike Blobs.Stat it is not a check that keeps a blob from
// collection.
func (s *Manifests) Whole(ctx context.Context, repo string, d digest.Digest) (bool, error) {
	if err := checkRepositoryAndDigest(repo, d); err != nil {
		return false, err
	}
	whole, err := database.Exists(ctx, s.db.Reader(), `SELECT 1 FROM repositories r CROSS JOIN repository_manifests l
		WHERE r.name = ?1 AND l.repository = r.id AND l.digest = ?2 AND NOT EXISTS (SELECT 1 FROM manifest_refs f
			WHERE f.manifest = ?2 AND f.kind <> 'child' AND f.elsewhere = 0 AND NOT EXISTS (SELECT 1 FROM repository_blobs b
				CROSS JOIN blobs ON blobs.digest = b.digest WHERE b.repository = r.id AND b.digest = f.digest))`, repo, d)
	if err != nil {
		return false, fmt.Errorf("look for manifest %s: %w", d, err)
	}
	return whole, nil
}

// anyRepositories bounds how many repositories one digest is looked for in.
const anyRepositories = 1000

// AnyRepositories returns repositories that have a manifest, those that only pull-through has brought it to
// as well, at most a thousand.
func (s *Manifests) AnyRepositories(ctx context.Context, d digest.Digest) ([]string, error) {
	return s.holders(ctx, `SELECT r.name FROM repository_manifests l CROSS JOIN repositories r ON r.id = l.repository WHERE l.digest = ? LIMIT ?`, d)
}

// AnyRepositories returns repositories that have a blob, at most a thousand.
func (s *Blobs) AnyRepositories(ctx context.Context, d digest.Digest) ([]string, error) {
	return s.holders(ctx, `SELECT r.name FROM repository_blobs l CROSS JOIN repositories r ON r.id = l.repository WHERE l.digest = ? LIMIT ?`, d)
}

func (s *core) holders(ctx context.Context, statement string, d digest.Digest) ([]string, error) {
	all, err := database.Column[string](ctx, s.db.Reader(), statement, d, anyRepositories)
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", d, err)
	}
	return all, nil
}

// Repositories returns the repositories that have a manifest, but those that only pull-through has
// brought it to.
func (s *Manifests) Repositories(ctx context.Context, d digest.Digest) ([]string, error) {
	if err := image.CheckDigest(d); err != nil {
		return nil, err
	}
	all, err := database.Column[string](ctx, s.db.Reader(), `SELECT r.name FROM repository_manifests l CROSS JOIN repositories r ON r.id = l.repository
		WHERE l.digest = ? AND l.pulled = 0 ORDER BY r.name`, d)
	if err != nil {
		return nil, fmt.Errorf("look for manifest %s: %w", d, err)
	}
	return all, nil
}
