package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// evictBatch is how many manifests are evicted in one transaction, which pushes wait for.
const evictBatch = 50

// needed says of a link l of a manifest to a repository that something there which was pushed or synced needs it: an
// index above it, what belongs to it, or what it belongs to. CROSS JOIN has both begin with what names the manifest, which is little; the
// planner has been seen to begin with all that the repository holds.
var needed = `(EXISTS (
		WITH RECURSIVE above (digest) AS (
			SELECT f.manifest FROM manifest_refs f WHERE f.digest = l.digest AND f.kind = 'child'
			UNION SELECT f.manifest FROM above a CROSS JOIN manifest_refs f WHERE f.digest = a.digest AND f.kind = 'child')
		SELECT 1 FROM above a CROSS JOIN repository_manifests p
		WHERE p.repository = l.repository AND p.digest = a.digest AND p.pulled = 0)
	OR EXISTS (SELECT 1 FROM (` + belongings("l.repository", "l.digest") + `) b CROSS JOIN repository_manifests p
		WHERE p.repository = l.repository AND p.digest = b.digest AND p.pulled = 0)
	OR EXISTS (SELECT 1 FROM (` + subjects("l.repository", "l.digest") + `) WHERE pulled = 0))`

// evictable says of a link that the manifest may be evicted by itself. What belongs to another goes with that.
var evictable = `NOT ` + needed + ` AND NOT ` + syncing + ` AND NOT EXISTS (` + subjects("l.repository", "l.digest") + `)`

// syncing says of a link that a run under way has the manifest.
const syncing = `(EXISTS (SELECT 1 FROM run_manifests s CROSS JOIN repositories r
		WHERE s.digest = l.digest AND r.id = l.repository AND r.name = s.repository)
	OR EXISTS (SELECT 1 FROM run_tags s CROSS JOIN repositories r
		WHERE s.digest = l.digest AND r.id = l.repository AND r.name = s.repository))`

// EvictPulled takes manifests that only pull-through brought out of their repositories, with their tags,
// until the blobs that nothing but such manifests is made of have no more than quota bytes. Those go first
// that nobody has asked for for the longest time. It says how many blobs that left to collection, and
// how many bytes these have; they stay until collection's grace period is over. Whoever asks for such an
// image again has it fetched again. A push or a run that brings a manifest, too, makes it stay.
func (s *Store) EvictPulled(ctx context.Context, quota int64) (blobs int, bytes int64, err error) {
	held, err := s.evictableBytes(ctx, quota)
	if err != nil {
		return 0, 0, err
	}
	defer s.shrinker.freed()
	var until int64 // what is asked for while this goes on is for the next time, or it might never end
	for last := (candidate{}); held-bytes > quota; {
		if err := s.saveUses(ctx); err != nil {
			return blobs, bytes, err
		}
		if until == 0 {
			if until, err = s.lastUse(ctx); err != nil {
				return blobs, bytes, err
			}
		}
		page, err := s.leastUsed(ctx, last, until)
		if err != nil {
			return blobs, bytes, err
		}
		if len(page) == 0 {
			break
		}
		last = page[len(page)-1]
		var freed []sized
		err = s.freeing(func() error {
			return s.write(ctx, func(tx *sql.Tx) (err error) {
				freed, err = s.evictSome(ctx, tx, page, held-bytes-quota)
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

// evictableBytes is how many bytes the blobs have that would be garbage with everything evicted. Hardly any
// repository has both what was pulled and what was pushed, and only there can the one need the other. Where all
// that is held is no more than quota, which is quickly found out, it says that.
func (s *Store) evictableBytes(ctx context.Context, quota int64) (n int64, err error) {
	err = s.reader.QueryRowContext(ctx, `SELECT coalesce(sum(size), 0) FROM blobs`).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count what is held: %w", err)
	}
	if n <= quota {
		return n, nil
	}
	err = s.reader.QueryRowContext(ctx, `WITH mixed (repository) AS MATERIALIZED (
			SELECT repository FROM repository_manifests GROUP BY repository HAVING min(pulled) < max(pulled)),
		link (repository, digest) AS MATERIALIZED (
			SELECT l.repository, l.digest FROM repository_manifests l INDEXED BY repository_manifests_by_use WHERE l.pulled = 1
			AND CASE WHEN l.repository IN (SELECT repository FROM mixed) THEN NOT `+needed+` ELSE 1 END AND NOT `+syncing+`),
		evictable (digest) AS MATERIALIZED (
			SELECT digest FROM link GROUP BY digest
			HAVING count(*) = (SELECT count(*) FROM repository_manifests k WHERE k.digest = link.digest)
			AND NOT EXISTS (SELECT 1 FROM run_manifests s WHERE s.digest = link.digest))
		SELECT coalesce(sum(b.size), 0) FROM (
			SELECT f.digest, count(*) AS named FROM evictable e CROSS JOIN manifest_refs f WHERE f.manifest = e.digest GROUP BY f.digest) g
		CROSS JOIN blobs b WHERE b.digest = g.digest
		AND g.named = (SELECT count(*) FROM manifest_refs f WHERE f.digest = g.digest)
		AND NOT EXISTS (SELECT 1 FROM run_blobs p WHERE p.digest = g.digest)`).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count what was pulled through: %w", err)
	}
	return n, nil
}

// candidate is a link that pull-through alone made, and when it was last asked for.
type candidate struct {
	use
	used int64
}

// lastUse is when a candidate was last asked for.
func (s *Store) lastUse(ctx context.Context) (last int64, err error) {
	err = s.reader.QueryRowContext(ctx, `SELECT coalesce(max(used), 0) FROM repository_manifests INDEXED BY repository_manifests_by_use WHERE pulled = 1`).Scan(&last)
	if err != nil {
		return 0, fmt.Errorf("look when what was pulled through was used: %w", err)
	}
	return last, nil
}

// leastUsed lists the next candidates, those first that nobody has asked for for the longest time.
func (s *Store) leastUsed(ctx context.Context, after candidate, until int64) (page []candidate, err error) {
	scan := func(rows *sql.Rows) error {
		var c candidate
		err := rows.Scan(&c.used, &c.repository, &c.digest)
		page = append(page, c)
		return err
	}
	err = query(ctx, s.reader, scan, `SELECT l.used, l.repository, l.digest FROM repository_manifests l INDEXED BY repository_manifests_by_use
		WHERE l.pulled = 1 AND (l.used, l.repository, l.digest) > (?, ?, ?) AND l.used <= ? ORDER BY l.used, l.repository, l.digest LIMIT ?`,
		after.used, after.repository, after.digest, until, evictBatch)
	if err != nil {
		return nil, fmt.Errorf("list what was pulled through: %w", err)
	}
	return page, nil
}

// evictSome evicts those candidates that nothing needs, until that frees so many bytes.
func (s *Store) evictSome(ctx context.Context, tx *sql.Tx, page []candidate, want int64) (freed []sized, err error) {
	for _, c := range page {
		if want <= 0 {
			break
		}
		can, err := exists(ctx, tx, `SELECT 1 FROM repository_manifests l
			WHERE l.repository = ? AND l.digest = ? AND l.used = ? AND l.pulled = 1 AND `+evictable,
			c.repository, c.digest, c.used)
		if err != nil {
			return nil, err
		}
		if !can {
			continue
		}
		blobs, err := s.evict(ctx, tx, c.use)
		if err != nil {
			return nil, err
		}
		for _, b := range blobs {
			want -= b.size
		}
		freed = append(freed, blobs...)
	}
	return freed, nil
}

// evict takes one manifest out of a repository, with what belongs to it, and gives the blobs that nothing refers to any
// more. Children of an index are not taken along: each has a time of its own when it was last asked for.
func (s *Store) evict(ctx context.Context, tx *sql.Tx, u use) (freed []sized, err error) {
	with := removal{tx: tx, repository: u.repository}
	below, err := with.list(ctx, listBelongings, u.digest)
	if err != nil {
		return nil, err
	}
	if freed, err = s.evictAlone(ctx, tx, u); err != nil {
		return nil, err
	}
	for _, d := range below {
		can, err := exists(ctx, tx, `SELECT 1 FROM repository_manifests l
			WHERE l.repository = ? AND l.digest = ? AND l.pulled = 1 AND `+evictable, u.repository, d)
		if err != nil {
			return nil, err
		}
		if !can {
			continue
		}
		more, err := s.evict(ctx, tx, use{u.repository, d})
		if err != nil {
			return nil, err
		}
		freed = append(freed, more...)
	}
	return freed, nil
}

func (s *Store) evictAlone(ctx context.Context, tx *sql.Tx, u use) (freed []sized, err error) {
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
