package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/guard"
)

// evictBatch is how many candidates one query lists.
const evictBatch = 50

// openTakes bounds the time of a read from the row of a blob to the opening of its file, during
// which eviction spares the blob. An open file can go.
const openTakes = 2 * time.Second

// needed reports whether pushed, synced or pinned content of the repository needs the manifest of a link l:
// an index above it, a manifest that belongs to it, or one that it belongs to. CROSS JOIN begins
// with the few rows that refer to it; the planner has been seen to begin with all of the
// repository.
var needed = `(EXISTS (
		WITH RECURSIVE above (digest) AS (
			SELECT f.manifest FROM manifest_refs f WHERE f.digest = l.digest AND f.kind = 'child'
			UNION SELECT f.manifest FROM above a CROSS JOIN manifest_refs f WHERE f.digest = a.digest AND f.kind = 'child')
		SELECT 1 FROM above a CROSS JOIN repository_manifests p
		WHERE p.repository = l.repository AND p.digest = a.digest AND p.pulled <> 1)
	OR EXISTS (SELECT 1 FROM (` + belongings("l.repository", "l.digest") + `) b CROSS JOIN repository_manifests p
		WHERE p.repository = l.repository AND p.digest = b.digest AND p.pulled <> 1)
	OR EXISTS (SELECT 1 FROM (` + subjects("l.repository", "l.digest") + `) subjects WHERE subjects.pulled <> 1))`

// evictable reports whether the manifest of a link may be evicted by itself. One that belongs to
// another goes with that.
var evictable = `NOT ` + needed + ` AND NOT ` + syncing + `
	AND NOT EXISTS (` + subjects("l.repository", "l.digest") + `) AND NOT EXISTS (` + keeping("l.repository", "l.digest") + `)`

var selectEvictable = `SELECT 1 FROM repository_manifests l
	WHERE l.repository = ?1 AND l.digest = ?2 AND (l.used = ?3 OR ?4 <> 0) AND l.pulled = 1 AND ` + evictable

var belongingsOf = belongings("?1", "?2")

// syncing reports whether an open run has the manifest of a link.
const syncing = `(EXISTS (SELECT 1 FROM run_manifests s CROSS JOIN repositories r
		WHERE s.digest = l.digest AND r.id = l.repository AND r.name = s.repository)
	OR EXISTS (SELECT 1 FROM run_tags s CROSS JOIN repositories r
		WHERE s.digest = l.digest AND r.id = l.repository AND r.name = s.repository))`

// EvictPulled removes manifests that only pull-through brought, with their tags, until they and
// their blobs have no more than quota bytes, and a sixteenth of quota or of the disk is free besides
// what pushes leave free. The least recently used go first. It returns the
// number and the bytes of the blobs that have lost their last reference. These are removed at once,
// but for those that the guard protects or that a push has brought as well, which are left to
// collection. A client that requests an evicted image has it fetched again.
func (s *Garbage) EvictPulled(ctx context.Context, quota int64) (blobs int, bytes int64, err error) {
	mark, wanted := s.arrivals.mark()
	left, err := s.mostBytes(ctx)
	if err != nil {
		return 0, 0, err
	}
	var spared int64
	limit := quota
	defer func() { s.arrivals.counted(limit, left, spared, mark) }()
	if left <= quota && s.lacking(limit, wanted) == 0 {
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
	left, spared = held+stray, protected
	if quota = s.fitting(limit, wanted, left); left <= quota {
		return 0, 0, nil
	}
	defer s.db.Freed()
	if blobs, bytes, err = s.removeStrays(ctx, strays, &spared); err != nil {
		return blobs, bytes, err
	}
	left = held
	var until int64 // later accesses are for the next eviction, or this one might never end
	for last := (candidate{}); left > quota; {
		if err := s.flushLastAccess(ctx); err != nil {
			return blobs, bytes, err
		}
		if until == 0 {
			if until, err = s.lastAccess(ctx); err != nil {
				return blobs, bytes, err
			}
		}
		page, err := s.leastRecent(ctx, last, until)
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
			return blobs, bytes, fmt.Errorf("evict pulled-through content: %w", err)
		}
	}
	return blobs, bytes, nil
}

// lacking returns how many bytes are missing on the disk for content of wanted bytes and for what
// comes next.
func (s *core) lacking(quota, wanted int64) int64 {
	if s.files == nil {
		return 0 // the disk of blobs is another's
	}
	_, total, err := s.space.Bytes(s.files.Root())
	if err != nil {
		return 0 // who writes to that disk finds out
	}
	var full *FullError
	if errors.As(s.space.Check(s.files.Root(), min(quota, total)/16+wanted), &full) {
		return full.Short
	}
	return 0
}

// fitting returns the quota that the disk has space for, of held bytes. What would not fit if they
// were all gone is not made space for.
func (s *core) fitting(quota, wanted, held int64) int64 {
	lacks := s.lacking(quota, wanted)
	if lacks > held {
		lacks = s.lacking(quota, 0)
	}
	return min(quota, max(held-lacks, 0))
}

// eviction is the result of one transaction or of several.
type eviction struct {
	blobs  int   // without a reference
	bytes  int64 // of these
	bodies int64 // bytes of manifests
	spared int64 // bytes of the blobs that the guard protects
	before time.Time
	marked []digest.Digest // the blobs whose rows are deleted
}

func (e *eviction) add(part eviction) {
	e.blobs, e.bytes, e.bodies, e.spared = e.blobs+part.blobs, e.bytes+part.bytes, e.bodies+part.bodies, e.spared+part.spared
}

// evicting runs evict in a transaction, and then removes the files of the blobs whose rows it
// deleted.
func (s *core) evicting(ctx context.Context, evict func(*sql.Tx, *eviction) error) (eviction, error) {
	var e eviction
	defer func() { s.guard.Blobs.Unmark(ctx, e.marked...) }()
	err := s.db.Write(ctx, func(tx *sql.Tx) error {
		s.guard.Blobs.Unmark(ctx, e.marked...) // by a run of this transaction that was rolled back
		e = eviction{before: s.now().Add(-openTakes)}
		return evict(tx, &e)
	})
	if err != nil {
		return eviction{}, err
	}
	_, _, err = s.removeFiles(ctx, e.marked, s.yielding())
	return e, err
}

// unneeded reports whether no manifest and no run refers to a blob b.
const unneeded = `NOT EXISTS (SELECT 1 FROM manifest_refs f WHERE f.digest = b.digest)
	AND NOT EXISTS (SELECT 1 FROM run_blobs p WHERE p.digest = b.digest)`

// pushedBlob reports whether a push or a run brought a blob b to a repository.
const pushedBlob = `EXISTS (SELECT 1 FROM repository_blobs l WHERE l.digest = b.digest AND l.pulled = 0)`

const (
	selectUnneeded = `SELECT b.size, ` + pushedBlob + ` FROM blobs b WHERE b.digest = ? AND ` + unneeded
	selectStrays   = `SELECT DISTINCT b.digest, b.size FROM repository_blobs l INDEXED BY repository_blobs_pulled
		CROSS JOIN blobs b ON b.digest = l.digest WHERE l.pulled = 1 AND ` + unneeded + ` AND NOT ` + pushedBlob
)

// strays lists the unneeded blobs that only pull-through brought, which an image leaves that is
// deleted while it is pulled, and their bytes.
func (s *core) strays(ctx context.Context) (found []digest.Digest, bytes, protected int64, err error) {
	before := s.now().Add(-openTakes)
	unused, err := database.List(ctx, s.db.Reader(), (*sized).columns, selectStrays)
	if err != nil {
		return nil, 0, 0, fmt.Errorf("list unreferenced pulled-through blobs: %w", err)
	}
	spared, err := s.guard.Blobs.Spared(ctx, before, digestsOf(unused)...)
	if err != nil {
		return nil, 0, 0, err
	}
	for _, b := range unused {
		if spared[b.digest] {
			protected += b.size
			continue
		}
		found, bytes = append(found, b.digest), bytes+b.size
	}
	return found, bytes, protected, nil
}

// removeStrays removes unneeded blobs.
func (s *core) removeStrays(ctx context.Context, strays []digest.Digest,
	spared *int64) (blobs int, bytes int64, err error) {
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
			return blobs, bytes, fmt.Errorf("remove unreferenced pulled-through blobs: %w", err)
		}
	}
	return blobs, bytes, nil
}

// dropUnneeded counts a blob that is unneeded, and deletes its row unless a push brought it as well
// or the guard protects it.
func (s *core) dropUnneeded(ctx context.Context, tx *sql.Tx, d digest.Digest, e *eviction) error {
	var size int64
	var pushed bool
	err := tx.QueryRowContext(ctx, selectUnneeded, d).Scan(&size, &pushed)
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
	marked, err := s.guard.Blobs.Mark(ctx, tx, d, e.before)
	if err != nil {
		return err
	}
	if !marked {
		e.spared += size
		return nil
	}
	e.marked = append(e.marked, d)
	_, err = tx.ExecContext(ctx, `DELETE FROM blobs WHERE digest = ?`, d)
	return err
}

// mostBytes returns an upper bound of the pulled-through bytes that is cheap to compute: the bytes
// of all blobs.
func (s *core) mostBytes(ctx context.Context) (n int64, err error) {
	err = s.db.Reader().QueryRowContext(ctx, `SELECT coalesce(sum(size), 0) FROM blobs`).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count blobs: %w", err)
	}
	database, wal := s.db.Bytes() // they contain all manifests
	return n + database + wal, nil
}

var sumEvictable = `WITH RECURSIVE ` + keptLinks + `, mixed (repository) AS MATERIALIZED (
		SELECT repository FROM repository_manifests GROUP BY repository HAVING min(pulled) <> max(pulled)),
	link (repository, digest) AS MATERIALIZED (
		SELECT l.repository, l.digest FROM repository_manifests l INDEXED BY repository_manifests_by_use WHERE l.pulled = 1
		AND CASE WHEN l.repository IN (SELECT repository FROM mixed) THEN NOT ` + needed + ` ELSE TRUE END AND NOT ` + syncing + `
		AND (l.repository, l.digest) NOT IN (SELECT repository, digest FROM kept)),
	evictable (digest) AS MATERIALIZED (
		SELECT digest FROM link GROUP BY digest
		HAVING count(*) = (SELECT count(*) FROM repository_manifests k WHERE k.digest = link.digest)
		AND NOT EXISTS (SELECT 1 FROM run_manifests s WHERE s.digest = link.digest))
	SELECT (SELECT coalesce(sum(m.size), 0) FROM evictable e CROSS JOIN manifests m WHERE m.digest = e.digest) + coalesce(sum(b.size), 0) FROM (
		SELECT f.digest, count(*) AS named FROM evictable e CROSS JOIN manifest_refs f WHERE f.manifest = e.digest GROUP BY f.digest) g
	CROSS JOIN blobs b WHERE b.digest = g.digest
	AND g.named = (SELECT count(*) FROM manifest_refs f WHERE f.digest = g.digest)
	AND NOT EXISTS (SELECT 1 FROM run_blobs p WHERE p.digest = g.digest)`

// evictableBytes returns the bytes of the manifests that may be evicted, and of the blobs that
// would be garbage without them. Hardly any repository has both pulled and pushed content, and only
// there can one need the other.
func (s *core) evictableBytes(ctx context.Context) (n int64, err error) {
	err = s.db.Reader().QueryRowContext(ctx, sumEvictable).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count pulled-through content: %w", err)
	}
	return n, nil
}

// candidate is a link that only pull-through made, and its last access.
type candidate struct {
	linkKey
	used int64
}

// lastAccess returns the latest access of any candidate.
func (s *core) lastAccess(ctx context.Context) (last int64, err error) {
	err = s.db.Reader().QueryRowContext(ctx, `SELECT coalesce(max(used), 0) FROM repository_manifests INDEXED BY repository_manifests_by_use WHERE pulled = 1`).Scan(&last)
	if err != nil {
		return 0, fmt.Errorf("look for the last access of pulled-through content: %w", err)
	}
	return last, nil
}

// leastRecent lists the next candidates, the least recently used first.
func (s *core) leastRecent(ctx context.Context, after candidate, until int64) (page []candidate, err error) {
	columns := func(c *candidate) []any { return []any{&c.used, &c.repository, &c.digest} }
	page, err = database.List(ctx, s.db.Reader(), columns, `SELECT l.used, l.repository, l.digest FROM repository_manifests l INDEXED BY repository_manifests_by_use
		WHERE l.pulled = 1 AND (l.used, l.repository, l.digest) > (?, ?, ?) AND l.used <= ? ORDER BY l.used, l.repository, l.digest LIMIT ?`,
		after.used, after.repository, after.digest, until, evictBatch)
	if err != nil {
		return nil, fmt.Errorf("list pulled-through content: %w", err)
	}
	return page, nil
}

// evictee is a manifest that may be evicted by itself, or one that belongs to an evicted manifest.
type evictee struct {
	candidate
	follows bool
}

// evictPage evicts the candidates that may be evicted, until that frees want bytes, and what
// belongs to them. Children of an index stay: each has a last access of its own.
func (s *core) evictPage(ctx context.Context, page []candidate, want int64) (freed eviction, err error) {
	var queue []evictee
	for _, c := range page {
		queue = append(queue, evictee{candidate: c})
	}
	for len(queue) > 0 {
		var part eviction
		var gone []linkKey
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
			below, err := database.Column[digest.Digest](ctx, s.db.Reader(), belongingsOf, u.repository, u.digest)
			if err != nil {
				return freed, err
			}
			for _, d := range below {
				queue = append(queue, evictee{candidate{linkKey: linkKey{u.repository, d}}, true})
			}
		}
		queue = append(queue, rest...)
	}
	return freed, nil
}

// evictSome evicts the first of some, as many as fit into a transaction, and returns these and the
// rest. A manifest with very many tags loses some of them, and is left for the next.
func (s *core) evictSome(ctx context.Context, tx *sql.Tx, some []evictee, want int64,
	e *eviction) (gone []linkKey, left []evictee, err error) {
	began := time.Now()
	for i, c := range some {
		switch {
		case i > 0 && time.Since(began) >= s.part:
			return gone, some[i:], nil
		case !c.follows && e.bytes+e.bodies >= want:
			return gone, nil, nil
		}
		can, err := database.Exists(ctx, tx, selectEvictable, c.repository, c.digest, c.used, c.follows)
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
		if err := s.evictAlone(ctx, tx, c.linkKey, e); err != nil {
			return nil, nil, err
		}
		gone = append(gone, c.linkKey)
	}
	return gone, nil, nil
}

// evictAlone removes a manifest without tags from a repository.
func (s *core) evictAlone(ctx context.Context, tx *sql.Tx, u linkKey, e *eviction) error {
	refs, err := database.Column[digest.Digest](ctx, tx,
		`SELECT DISTINCT digest FROM manifest_refs WHERE manifest = ?`, u.digest)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM repository_manifests WHERE repository = ? AND digest = ?`, u.repository, u.digest); err != nil {
		return err
	}
	var body int64
	if err := tx.QueryRowContext(ctx, `SELECT size FROM manifests WHERE digest = ?`, u.digest).Scan(&body); err != nil {
		return err
	}
	if err := dropUnlinked(ctx, tx, u.digest); err != nil {
		return err
	}
	if held, err := database.Exists(ctx, tx, `SELECT 1 FROM manifests WHERE digest = ?`, u.digest); held || err != nil {
		return err // its references are still needed
	}
	e.bodies += body
	for _, d := range refs {
		if err := s.dropUnneeded(ctx, tx, d, e); err != nil {
			return err
		}
	}
	return nil
}

// arrivals counts pulled-through bytes since the last count of the store, which takes too long for
// each blob.
type arrivals struct {
	over chan struct{} // holds one token when the quota may be exceeded

	mu    sync.Mutex    // guards the fields below
	quota int64         // 0: unknown
	held  int64         // bytes at the last count
	since int64         // bytes after it
	need  int64         // bytes of the largest content since that found the disk full
	wait  time.Duration // before the next eviction of spared blobs
}

func (a *arrivals) add(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.since += n
	if a.quota != 0 && a.held+a.since > a.quota {
		a.wake()
	}
}

// crowd has content evicted if there is some and the disk lacks space for need bytes.
func (a *arrivals) crowd(need int64, lacks func(quota int64) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.quota != 0 && a.held+a.since > 0 && lacks(a.quota) {
		a.need = max(a.need, need)
		a.wake()
	}
}

// mark returns the bytes so far, for counted, and takes those that found the disk full.
func (a *arrivals) mark() (since, need int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	need, a.need = a.need, 0
	return a.since, need
}

// counted records the evictable bytes, which include all that arrived before mark, and the spared
// bytes. Above the quota the next eviction is soon, and later each time.
func (a *arrivals) counted(quota, held, spared, mark int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.quota, a.held = quota, held+spared
	a.since -= mark
	if spared == 0 || a.held <= quota {
		a.wait = 0
		return
	}
	a.wait = min(max(2*a.wait, openTakes), guard.PushTakes)
	time.AfterFunc(a.wait, a.wake)
}

func (a *arrivals) wake() {
	select {
	case a.over <- struct{}{}:
	default:
	}
}

// QuotaPassed returns a channel that gets a token when pull-through may exceed the quota of the
// last EvictPulled, or the disk what it keeps free.
func (s *Garbage) QuotaPassed() <-chan struct{} { return s.arrivals.over }
