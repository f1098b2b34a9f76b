package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// evictBatch is how many manifests are evicted in one transaction, which pushes wait for.
const evictBatch = 50

// evictable says of a link l of a manifest to a repository that pull-through alone made it, and that nothing
// there which was pushed or synced needs it: neither an index above it, nor a signature of it, nor a
// run under way.
const evictable = `l.pulled = 1
	AND NOT EXISTS (
		WITH RECURSIVE above (digest) AS (
			SELECT f.manifest FROM manifest_refs f WHERE f.digest = l.digest AND f.kind = 'child'
			UNION SELECT f.manifest FROM above a JOIN manifest_refs f ON f.digest = a.digest AND f.kind = 'child')
		SELECT 1 FROM above a JOIN repository_manifests p ON p.repository = l.repository AND p.digest = a.digest
		WHERE p.pulled = 0)
	AND NOT EXISTS (SELECT 1 FROM manifests m
		JOIN repository_manifests p ON p.repository = l.repository AND p.digest = m.digest
		WHERE m.subject = l.digest AND m.subject <> '' AND p.pulled = 0)
	AND NOT EXISTS (SELECT 1 FROM repositories r JOIN run_manifests s ON s.repository = r.name
		WHERE r.id = l.repository AND s.digest = l.digest)
	AND NOT EXISTS (SELECT 1 FROM repositories r JOIN run_tags s ON s.repository = r.name
		WHERE r.id = l.repository AND s.digest = l.digest)`

// EvictPulled takes manifests that only pull-through brought out of their repositories, with their tags,
// until the blobs that nothing but such manifests is made of have no more than quota bytes. Those go first
// that nobody has asked for for the longest time. It says how many blobs that left to collection, and
// how many bytes these have; they stay until collection's grace period is over. Whoever asks for such an
// image again has it fetched again. A push or a run that brings a manifest, too, makes it stay.
func (s *Store) EvictPulled(ctx context.Context, quota int64) (blobs int, bytes int64, err error) {
	held, err := s.evictableBytes(ctx)
	if err != nil {
		return 0, 0, err
	}
	for more := true; more && held-bytes > quota; {
		if err := s.saveUses(ctx); err != nil {
			return blobs, bytes, err
		}
		var freed []sized
		err := s.freeing(func() error {
			return s.write(ctx, func(tx *sql.Tx) (err error) {
				freed, more, err = s.evictSome(ctx, tx, held-bytes-quota)
				return err
			})
		})
		if err != nil {
			return blobs, bytes, fmt.Errorf("evict what was pulled through: %w", err)
		}
		for _, b := range freed {
			blobs, bytes = blobs+1, bytes+b.size
		}
	}
	return blobs, bytes, nil
}

// evictableBytes is how many bytes the blobs have that would be garbage with everything evicted.
func (s *Store) evictableBytes(ctx context.Context) (n int64, err error) {
	err = s.reader.QueryRowContext(ctx, `WITH evictable (digest) AS MATERIALIZED (
			SELECT DISTINCT l.digest FROM repository_manifests l INDEXED BY repository_manifests_by_use WHERE `+evictable+`
			AND NOT EXISTS (SELECT 1 FROM run_manifests s WHERE s.digest = l.digest)
			AND NOT EXISTS (SELECT 1 FROM repository_manifests k WHERE k.digest = l.digest AND NOT EXISTS (
				SELECT 1 FROM repository_manifests l WHERE l.repository = k.repository AND l.digest = k.digest AND `+evictable+`)))
		SELECT coalesce(sum(b.size), 0) FROM blobs b
		WHERE b.digest IN (SELECT f.digest FROM evictable e JOIN manifest_refs f ON f.manifest = e.digest)
		AND NOT EXISTS (SELECT 1 FROM manifest_refs f WHERE f.digest = b.digest AND f.manifest NOT IN (SELECT digest FROM evictable))
		AND NOT EXISTS (SELECT 1 FROM run_blobs p WHERE p.digest = b.digest)`).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count what was pulled through: %w", err)
	}
	return n, nil
}

// evictSome evicts manifests until that frees so many bytes, a batch at most, and says whether there are more.
func (s *Store) evictSome(ctx context.Context, tx *sql.Tx, want int64) (freed []sized, more bool, err error) {
	var batch []use
	scan := func(rows *sql.Rows) error {
		var u use
		err := rows.Scan(&u.repository, &u.digest)
		batch = append(batch, u)
		return err
	}
	err = query(ctx, tx, scan, `SELECT l.repository, l.digest FROM repository_manifests l INDEXED BY repository_manifests_by_use
		WHERE `+evictable+` ORDER BY l.used LIMIT ?`, evictBatch)
	if err != nil {
		return nil, false, err
	}
	for _, u := range batch {
		if want <= 0 {
			return freed, true, nil
		}
		blobs, err := s.evict(ctx, tx, u)
		if err != nil {
			return nil, false, err
		}
		for _, b := range blobs {
			want -= b.size
		}
		freed = append(freed, blobs...)
	}
	return freed, len(batch) == evictBatch, nil
}

// evict takes one manifest out of a repository and gives the blobs that nothing refers to any more. Children
// of an index are not taken along: each has a time of its own when it was last asked for.
func (s *Store) evict(ctx context.Context, tx *sql.Tx, u use) (freed []sized, err error) {
	var refs []digest.Digest
	scan := func(rows *sql.Rows) error {
		var d digest.Digest
		err := rows.Scan(&d)
		refs = append(refs, d)
		return err
	}
	if err := query(ctx, tx, scan, `SELECT DISTINCT digest FROM manifest_refs WHERE manifest = ?`, u.digest); err != nil {
		return nil, err
	}
	if err := s.untag(ctx, tx, u.repository, u.digest); err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM repository_manifests WHERE repository = ? AND digest = ?`, u.repository, u.digest); err != nil {
		return nil, err
	}
	if err := dropUnheld(ctx, tx, u.digest); err != nil {
		return nil, err
	}
	for _, d := range refs {
		unreferenced := func(rows *sql.Rows) error {
			b := sized{digest: d}
			err := rows.Scan(&b.size)
			freed = append(freed, b)
			return err
		}
		err := query(ctx, tx, unreferenced, `SELECT b.size FROM blobs b WHERE b.digest = ?
			AND NOT EXISTS (SELECT 1 FROM manifest_refs f WHERE f.digest = b.digest)
			AND NOT EXISTS (SELECT 1 FROM run_blobs p WHERE p.digest = b.digest)`, d)
		if err != nil {
			return nil, err
		}
	}
	return freed, nil
}
