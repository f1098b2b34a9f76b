package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// evictBatch is how many manifests are listed at a time that may be evicted.
const evictBatch = 50

// openTakes is how long a read may take from the look at a blob's row to the opening of its file, which eviction spares
// meanwhile. A file that is open can go.
const openTakes = 2 * time.Second

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
// until these, and the blobs that nothing but such manifests is made of, have no more than quota bytes. The least
// recently used go first. It tells how many blobs nothing needs any more, and how many bytes these have. They are removed
// at once, but for those that a push brought, too, or that the guard protects: collection takes these. An image that is
// asked for again is fetched again. A push or a run that brings a manifest, too, makes it stay.
func (s *Garbage) EvictPulled(ctx context.Context, quota int64) (blobs int, bytes int64, err error) {
	mark := s.arrivals.mark()
	left, err := s.mostBytes(ctx)
	if err != nil {
		return 0, 0, err
	}
	var spared int64
	defer func() { s.arrivals.counted(quota, left, spared, mark) }()
	if left <= quota {
		return 0, 0, nil
	}
	held, err := s.evictableBytes(ctx)
	if err != nil {
		return 0, 0, err
	}
	strays, stray, protected, err := s.strays(ctx)
	if err != nil {
		return 0, 0, err
	}
	if left, spared = held+stray, protected; left <= quota {
		return 0, 0, nil
	}
	defer s.db.Freed()
	if blobs, bytes, err = s.removeStrays(ctx, strays, &spared); err != nil {
		return blobs, bytes, err
	}
	left = held
	var until int64 // what is asked for while this goes on is for the next time, or it might never end
	for last := (candidate{}); left > quota; {
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
		freed, err := s.evictPage(ctx, page, left-quota)
		blobs, bytes, left = blobs+freed.blobs, bytes+freed.bytes, left-freed.bytes-freed.bodies
		spared += freed.spared
		if err != nil {
			return blobs, bytes, fmt.Errorf("evict what was pulled through: %w", err)
		}
	}
	return blobs, bytes, nil
}

// eviction is what a transaction, or several, have evicted.
type eviction struct {
	blobs  int   // that nothing needs any more
	bytes  int64 // of these
	bodies int64 // bytes of manifests
	spared int64 // bytes of the blobs that the guard protects
	before time.Time
	marked []digest.Digest // of the blobs, those whose rows are deleted
}

func (e *eviction) add(part eviction) {
	e.blobs, e.bytes, e.bodies, e.spared = e.blobs+part.blobs, e.bytes+part.bytes, e.bodies+part.bodies, e.spared+part.spared
}

// evicting runs evict in a transaction, and then removes the files of the blobs whose rows that deleted.
func (s *core) evicting(ctx context.Context, evict func(*sql.Tx, *eviction) error) (eviction, error) {
	e := eviction{before: s.now().Add(-openTakes)}
	defer func() { s.guard.Blobs.Unmark(e.marked...) }()
	if err := s.db.Write(ctx, func(tx *sql.Tx) error { return evict(tx, &e) }); err != nil {
		return eviction{}, err
	}
	_, _, err := s.removeFiles(ctx, e.marked, s.yielding())
	return e, err
}

// unneeded says of a blob b that no manifest is made of it, and that no run has it.
const unneeded = `NOT EXISTS (SELECT 1 FROM manifest_refs f WHERE f.digest = b.digest)
	AND NOT EXISTS (SELECT 1 FROM run_blobs p WHERE p.digest = b.digest)`

// pushedBlob says of a blob b that a push or a run brought it to some repository.
const pushedBlob = `EXISTS (SELECT 1 FROM repository_blobs l WHERE l.digest = b.digest AND l.pulled = 0)`

// strays lists what pulls alone brought and nothing needs, as an image leaves it that is deleted while it is pulled, with its
// bytes.
func (s *core) strays(ctx context.Context) (found []digest.Digest, bytes, protected int64, err error) {
	before := s.now().Add(-openTakes)
	scan := func(rows *sql.Rows) error {
		var b sized
		err := rows.Scan(&b.digest, &b.size)
		switch {
		case err != nil:
		case s.guard.Blobs.Spared(b.digest, before):
			protected += b.size
		default:
			found, bytes = append(found, b.digest), bytes+b.size
		}
		return err
	}
	err = sqlite.Query(ctx, s.db.Reader(), scan, `SELECT DISTINCT b.digest, b.size FROM repository_blobs l INDEXED BY repository_blobs_pulled
		CROSS JOIN blobs b ON b.digest = l.digest WHERE l.pulled = 1 AND `+unneeded+` AND NOT `+pushedBlob)
	if err != nil {
		return nil, 0, 0, fmt.Errorf("list what was pulled through for nothing: %w", err)
	}
	return found, bytes, protected, nil
}

// removeStrays removes blobs that nothing needs.
func (s *core) removeStrays(ctx context.Context, strays []digest.Digest, spared *int64) (blobs int, bytes int64, err error) {
	for batch := range slices.Chunk(strays, removeBatch.quiet) {
		var freed eviction
		err := s.db.Freeing(func() (err error) {
			freed, err = s.evicting(ctx, func(tx *sql.Tx, e *eviction) error {
				for _, d := range batch {
					if err := s.dropUnneeded(ctx, tx, d, e); err != nil {
						return err
					}
				}
				return nil
			})
			return err
		})
		blobs, bytes = blobs+freed.blobs, bytes+freed.bytes
		*spared += freed.spared
		if err != nil {
			return blobs, bytes, fmt.Errorf("remove what was pulled through for nothing: %w", err)
		}
	}
	return blobs, bytes, nil
}

// dropUnneeded counts a blob that nothing needs any more, and deletes its row, unless a push brought it, too, or the guard
// protects it.
func (s *core) dropUnneeded(ctx context.Context, tx *sql.Tx, d digest.Digest, e *eviction) error {
	var size int64
	var pushed bool
	err := tx.QueryRowContext(ctx, `SELECT b.size, `+pushedBlob+` FROM blobs b WHERE b.digest = ? AND `+unneeded, d).Scan(&size, &pushed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	e.blobs, e.bytes = e.blobs+1, e.bytes+size
	if pushed {
		return nil
	}
	if !s.guard.Blobs.Mark(d, e.before) {
		e.spared += size
		return nil
	}
	e.marked = append(e.marked, d)
	_, err = tx.ExecContext(ctx, `DELETE FROM blobs WHERE digest = ?`, d)
	return err
}

// mostBytes returns an upper bound of the pulled-through bytes that is cheap to compute: the bytes of all blobs.
func (s *core) mostBytes(ctx context.Context) (n int64, err error) {
	err = s.db.Reader().QueryRowContext(ctx, `SELECT coalesce(sum(size), 0) FROM blobs`).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count blobs: %w", err)
	}
	database, wal := s.db.Bytes() // which have all manifests in them
	return n + database + wal, nil
}

// evictableBytes is how many bytes the manifests have that may be evicted, and the blobs that would be garbage with all of
// them evicted. Hardly any repository has both what was pulled and what was pushed, and only there can the one need the
// other.
func (s *core) evictableBytes(ctx context.Context) (n int64, err error) {
	err = s.db.Reader().QueryRowContext(ctx, `WITH mixed (repository) AS MATERIALIZED (
			SELECT repository FROM repository_manifests GROUP BY repository HAVING min(pulled) < max(pulled)),
		link (repository, digest) AS MATERIALIZED (
			SELECT l.repository, l.digest FROM repository_manifests l INDEXED BY repository_manifests_by_use WHERE l.pulled = 1
			AND CASE WHEN l.repository IN (SELECT repository FROM mixed) THEN NOT `+needed+` ELSE 1 END AND NOT `+syncing+`),
		evictable (digest) AS MATERIALIZED (
			SELECT digest FROM link GROUP BY digest
			HAVING count(*) = (SELECT count(*) FROM repository_manifests k WHERE k.digest = link.digest)
			AND NOT EXISTS (SELECT 1 FROM run_manifests s WHERE s.digest = link.digest))
		SELECT (SELECT coalesce(sum(m.size), 0) FROM evictable e CROSS JOIN manifests m WHERE m.digest = e.digest) + coalesce(sum(b.size), 0) FROM (
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
func (s *core) lastUse(ctx context.Context) (last int64, err error) {
	err = s.db.Reader().QueryRowContext(ctx, `SELECT coalesce(max(used), 0) FROM repository_manifests INDEXED BY repository_manifests_by_use WHERE pulled = 1`).Scan(&last)
	if err != nil {
		return 0, fmt.Errorf("look when what was pulled through was used: %w", err)
	}
	return last, nil
}

// leastUsed lists the next candidates, the least recently used first.
func (s *core) leastUsed(ctx context.Context, after candidate, until int64) (page []candidate, err error) {
	scan := func(rows *sql.Rows) error {
		var c candidate
		err := rows.Scan(&c.used, &c.repository, &c.digest)
		page = append(page, c)
		return err
	}
	err = sqlite.Query(ctx, s.db.Reader(), scan, `SELECT l.used, l.repository, l.digest FROM repository_manifests l INDEXED BY repository_manifests_by_use
		WHERE l.pulled = 1 AND (l.used, l.repository, l.digest) > (?, ?, ?) AND l.used <= ? ORDER BY l.used, l.repository, l.digest LIMIT ?`,
		after.used, after.repository, after.digest, until, evictBatch)
	if err != nil {
		return nil, fmt.Errorf("list what was pulled through: %w", err)
	}
	return page, nil
}

// evictee is a manifest that may be evicted by itself, or one that belongs to a manifest that was.
type evictee struct {
	candidate
	follows bool
}

// evictPage evicts those candidates that nothing needs, until that frees so many bytes, with what belongs to them. Children of
// an index are not taken along: each has a time of its own when it was last asked for.
func (s *core) evictPage(ctx context.Context, page []candidate, want int64) (freed eviction, err error) {
	var queue []evictee
	for _, c := range page {
		queue = append(queue, evictee{candidate: c})
	}
	for len(queue) > 0 {
		var part eviction
		var gone []use
		var rest []evictee
		err := s.db.Freeing(func() (err error) {
			part, err = s.evicting(ctx, func(tx *sql.Tx, e *eviction) (err error) {
				gone, rest, err = s.evictSome(ctx, tx, queue, want-freed.bytes-freed.bodies, e)
				return err
			})
			return err
		})
		freed.add(part)
		if err != nil {
			return freed, err
		}
		queue = nil
		for _, u := range gone {
			below, err := listDigests(ctx, s.db.Reader(), `SELECT digest FROM (`+belongingsFrom("json_each(?2) d CROSS JOIN", "?1", "d.value", "")+`)`, u.repository, []digest.Digest{u.digest})
			if err != nil {
				return freed, err
			}
			for _, d := range below {
				queue = append(queue, evictee{candidate{use: use{u.repository, d}}, true})
			}
		}
		queue = append(queue, rest...)
	}
	return freed, nil
}

// evictSome evicts the first of some, as many as fit into a transaction, and gives these and those that are left. A manifest
// that has very many tags loses some of them, and is left.
func (s *core) evictSome(ctx context.Context, tx *sql.Tx, some []evictee, want int64, e *eviction) (gone []use, left []evictee, err error) {
	began := time.Now()
	for i, c := range some {
		switch {
		case i > 0 && time.Since(began) >= s.part:
			return gone, some[i:], nil
		case !c.follows && e.bytes+e.bodies >= want:
			return gone, nil, nil
		}
		can, err := sqlite.Exists(ctx, tx, `SELECT 1 FROM repository_manifests l
			WHERE l.repository = ?1 AND l.digest = ?2 AND (l.used = ?3 OR ?4) AND l.pulled = 1 AND `+evictable,
			c.repository, c.digest, c.used, c.follows)
		more := false
		if err == nil && can {
			more, err = s.untagSome(ctx, tx, c.repository, c.digest)
		}
		switch {
		case err != nil:
			return nil, nil, err
		case !can:
			continue
		case more:
			return gone, some[i:], nil
		}
		if err := s.evictAlone(ctx, tx, c.use, e); err != nil {
			return nil, nil, err
		}
		gone = append(gone, c.use)
	}
	return gone, nil, nil
}

// evictAlone takes a manifest that has no tags any more out of a repository.
func (s *core) evictAlone(ctx context.Context, tx *sql.Tx, u use, e *eviction) error {
	var refs []digest.Digest
	scan := func(rows *sql.Rows) error {
		var d digest.Digest
		err := rows.Scan(&d)
		refs = append(refs, d)
		return err
	}
	if err := sqlite.Query(ctx, tx, scan, `SELECT DISTINCT digest FROM manifest_refs WHERE manifest = ?`, u.digest); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM repository_manifests WHERE repository = ? AND digest = ?`, u.repository, u.digest); err != nil {
		return err
	}
	var body int64
	if err := tx.QueryRowContext(ctx, `SELECT size FROM manifests WHERE digest = ?`, u.digest).Scan(&body); err != nil {
		return err
	}
	if err := dropUnheld(ctx, tx, u.digest); err != nil {
		return err
	}
	if held, err := sqlite.Exists(ctx, tx, `SELECT 1 FROM manifests WHERE digest = ?`, u.digest); held || err != nil {
		return err // and what it is made of is needed
	}
	e.bodies += body
	for _, d := range refs {
		if err := s.dropUnneeded(ctx, tx, d, e); err != nil {
			return err
		}
	}
	return nil
}
