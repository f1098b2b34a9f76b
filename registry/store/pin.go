package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Pinned is an image that Pin has protected.
type Pinned struct {
	Repository string
	Digest     digest.Digest
	Tags       []string // that name it now
	// Parts are the manifests and blobs that it consists of, as far as its manifests are held, and
	// Held are those that are here.
	Parts, Held int
	Bytes       int64 // of the blobs that are here
}

const (
	pinLink   = `UPDATE repository_manifests SET pulled = 2 WHERE repository = ?1 AND digest = ?2 AND pulled = 1 AND ?3 = ?3`
	unpinLink = `UPDATE repository_manifests SET pulled = 1, used = max(used, ?3) WHERE repository = ?1 AND digest = ?2 AND pulled = 2`
)

// Pin protects an image that only pull-through brought from eviction, with the children of an index
// and what belongs to it, also those that come later. It returns false for one that is protected
// already, by a pin or since a push or a run brought it. ErrNotFound.
func (s *Manifests) Pin(ctx context.Context, repo string, d digest.Digest) (changed bool, err error) {
	return s.pin(ctx, repo, d, pinLink)
}

// Unpin undoes Pin: the image may be evicted again, as if it had been used just now. It returns
// false for one that is not pinned. ErrNotFound.
func (s *Manifests) Unpin(ctx context.Context, repo string, d digest.Digest) (changed bool, err error) {
	return s.pin(ctx, repo, d, unpinLink)
}

func (s *core) pin(ctx context.Context, repo string, d digest.Digest, update string) (changed bool, err error) {
	if err := checkRepositoryAndDigest(repo, d); err != nil {
		return false, err
	}
	err = s.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		id, err := repositoryID(ctx, tx, repo)
		if err != nil {
			return err
		}
		is, err := database.Exists(ctx, tx, `SELECT 1 FROM repository_manifests WHERE repository = ? AND digest = ?`, id, d)
		if err == nil && !is {
			return &NotFoundError{Kind: "manifest", Name: d.String()}
		}
		if err != nil {
			return err
		}
		result, err := tx.ExecContext(ctx, update, id, d, database.Nanos(s.now()))
		if err != nil {
			return fmt.Errorf("pin manifest %s: %w", d, err)
		}
		n, err := result.RowsAffected()
		changed = n > 0
		return err
	})
	return changed, err
}

const (
	selectPinned = `SELECT l.repository, r.name, l.digest FROM repository_manifests l INDEXED BY repository_manifests_pinned
		CROSS JOIN repositories r ON r.id = l.repository WHERE l.pulled = 2 ORDER BY r.name, l.digest`

	// The parts of the manifest ?2 in the repository ?1.
	countParts = `WITH RECURSIVE below (digest) AS (SELECT ?2
			UNION SELECT f.digest FROM below b CROSS JOIN manifest_refs f CROSS JOIN repository_manifests p
			WHERE f.manifest = b.digest AND f.kind = 'child' AND p.repository = ?1 AND p.digest = f.digest),
		part (digest, child) AS (SELECT DISTINCT f.digest, f.kind = 'child' FROM below b CROSS JOIN manifest_refs f
			WHERE f.manifest = b.digest AND f.elsewhere = 0),
		held (size) AS (SELECT CASE WHEN p.child THEN (SELECT 0 FROM repository_manifests m WHERE m.repository = ?1 AND m.digest = p.digest)
			ELSE (SELECT b.size FROM repository_blobs l CROSS JOIN blobs b WHERE l.repository = ?1 AND l.digest = p.digest AND b.digest = p.digest) END FROM part p)
		SELECT count(*), count(size), coalesce(sum(size), 0) FROM held`
)

// Pinned lists the images that are pinned, by repository.
func (s *Manifests) Pinned(ctx context.Context) ([]Pinned, error) {
	type row struct {
		repository int64
		Pinned
	}
	columns := func(r *row) []any { return []any{&r.repository, &r.Repository, &r.Digest} }
	rows, err := database.List(ctx, s.db.Reader(), columns, selectPinned)
	all := []Pinned{}
	for _, r := range rows {
		if err == nil {
			r.Tags, err = database.Column[string](ctx, s.db.Reader(), `SELECT name FROM tags WHERE repository = ? AND digest = ? ORDER BY name`, r.repository, r.Digest)
		}
		if err == nil {
			err = s.db.Reader().QueryRowContext(ctx, countParts, r.repository, r.Digest).Scan(&r.Parts, &r.Held, &r.Bytes)
		}
		all = append(all, r.Pinned)
	}
	if err != nil {
		return nil, fmt.Errorf("list pinned images: %w", err)
	}
	return all, nil
}
