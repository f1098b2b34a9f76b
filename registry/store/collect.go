package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

var (
	garbagePage = stepSize{250, 5000} // blobs of one query, which holds a connection and a snapshot
	removeBatch = stepSize{12, 50}    // blobs of one transaction, which pushes wait for
)

const (
	// planners bounds the goroutines of a plan: one reads rows, and the others directories, which
	// may wait for the disk. Pulls keep most of the readers and a core.
	planners = 3

	afterAllDigests = "~"
)

// garbage reports whether a blob b has been unused since ?1: it is older, no manifest or run refers
// to it, and it was neither pushed nor mounted since. The guard has the checks, which are not rows.
const garbage = `b.created < ?1
	AND NOT EXISTS (SELECT 1 FROM manifest_refs f WHERE f.digest = b.digest)
	AND NOT EXISTS (SELECT 1 FROM run_blobs p WHERE p.digest = b.digest)
	AND NOT EXISTS (SELECT 1 FROM repository_blobs l WHERE l.digest = b.digest AND l.linked >= ?1)`

// GarbageBlobs yields the blobs that have been unused since before, and the files without a row, in
// no order. It is a plan: RemoveBlobs checks again. No lock or transaction is open while yield
// runs. *StorageError when there are files without a row and most rows have no file: the storage is
// that of another store.
func (s *Garbage) GarbageBlobs(ctx context.Context, before time.Time,
	yield func(d digest.Digest, size int64) error) error {
	if err := s.finishAll(ctx); err != nil { // it releases blobs
		return err
	}
	if err := s.recall(ctx, before); err != nil {
		return err
	}
	var yielding sync.Mutex
	one := func(d digest.Digest, size int64) error {
		yielding.Lock()
		defer yielding.Unlock()
		return yield(d, size)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, min(planners, runtime.GOMAXPROCS(0)-1)))
	g.Go(func() error { return s.garbageRows(ctx, before, one) })
	ours := sync.OnceValue(func() error { return s.checker().CheckStorage(ctx, digest.SHA256, "") })
	unnamed := func(d digest.Digest, size int64) error {
		if err := ours(); err != nil {
			return err
		}
		return one(d, size)
	}
	for _, a := range blobstore.Algorithms() {
		parts, err := s.blobs.Parts(ctx, a)
		if err != nil {
			g.Go(func() error { return fmt.Errorf("list blob files: %w", err) })
		}
		for _, part := range parts {
			g.Go(func() error {
				turn := s.yielding()
				if err := s.garbageFiles(ctx, part, before, unnamed); err != nil {
					return err
				}
				return turn.yield(ctx)
			})
		}
	}
	return g.Wait()
}

type sized struct {
	digest digest.Digest
	size   int64
}

func (b *sized) columns() []any { return []any{&b.digest, &b.size} }

func digestsOf(blobs []sized) []digest.Digest {
	all := make([]digest.Digest, len(blobs))
	for i, b := range blobs {
		all[i] = b.digest
	}
	return all
}

func (s *core) garbageRows(ctx context.Context, before time.Time, yield func(digest.Digest, int64) error) error {
	turn := s.yielding()
	for last := digest.Digest(""); last != afterAllDigests; {
		page, end, err := s.garbageOf(ctx, before, last, turn.size(garbagePage))
		if err != nil {
			return fmt.Errorf("list garbage: %w", err)
		}
		last = end
		spared, err := s.guard.Blobs.Spared(ctx, before, digestsOf(page)...)
		if err != nil {
			return err
		}
		for _, b := range page {
			if spared[b.digest] {
				continue
			}
			if err := yield(b.digest, b.size); err != nil {
				return err
			}
		}
		if err := turn.yield(ctx); err != nil {
			return err
		}
	}
	return nil
}

// garbageIn lists the garbage among the blobs after ?2, up to ?3. Nearly all blobs have references:
// EXCEPT merges two indexes of the same order, in half the time of a lookup for each blob.
const garbageIn = `SELECT b.digest, b.size FROM blobs b
	WHERE b.digest IN (
		SELECT digest FROM blobs WHERE digest > ?2 AND digest <= ?3
		EXCEPT SELECT digest FROM manifest_refs WHERE digest > ?2 AND digest <= ?3)
	AND ` + garbage + ` ORDER BY b.digest`

// garbageOf lists the garbage among the next n blobs, and returns the last of these.
func (s *core) garbageOf(ctx context.Context, before time.Time, after digest.Digest,
	n int) (page []sized, end digest.Digest, err error) {
	err = s.db.Reader().QueryRowContext(ctx, `SELECT digest FROM blobs WHERE digest > ? ORDER BY digest LIMIT 1 OFFSET ?`, after, n-1).Scan(&end)
	if errors.Is(err, sql.ErrNoRows) {
		end, err = afterAllDigests, nil
	}
	if err != nil {
		return nil, "", err
	}
	page, err = database.List(ctx, s.db.Reader(), (*sized).columns, garbageIn, database.Nanos(before), after, end)
	return page, end, err
}

// garbageFiles yields the old files without a row in one part of the storage, which a crash between
// the file and its row leaves.
func (s *core) garbageFiles(ctx context.Context, part blobstore.Part, before time.Time,
	yield func(digest.Digest, int64) error) error {
	names, err := part.Names(ctx)
	if err != nil {
		return fmt.Errorf("list blob files: %w", err)
	}
	names, err = s.unnamed(ctx, part.Prefix(), names)
	if err != nil {
		return fmt.Errorf("list garbage: %w", err)
	}
	for _, name := range names {
		d, ok := part.Digest(name)
		if !ok {
			continue // a file of another name is not ours to delete
		}
		if spared, err := s.guard.Blobs.Spared(ctx, before, d); err != nil {
			return err
		} else if spared[d] {
			continue
		}
		size, old, err := s.blobs.Blob(d).Old(ctx, before, s.now())
		if err != nil || !old {
			continue
		}
		if named, err := database.Exists(ctx, s.db.Reader(), referredTo, d); err != nil {
			return fmt.Errorf("list garbage: %w", err)
		} else if named {
			continue
		}
		if err := yield(d, size); err != nil {
			return err
		}
	}
	return nil
}

// unnamed returns those of names, which are sorted, without a row of a blob with prefix.
func (s *core) unnamed(ctx context.Context, prefix string, names []string) (unnamed []string, err error) {
	if len(names) == 0 {
		return nil, nil
	}
	scan := func(rows *sql.Rows) error {
		var d string
		err := rows.Scan(&d)
		_, named, _ := strings.Cut(d, ":")
		for len(names) > 0 && names[0] < named {
			unnamed, names = append(unnamed, names[0]), names[1:]
		}
		if len(names) > 0 && names[0] == named {
			names = names[1:]
		}
		return err
	}
	err = database.Query(ctx, s.db.Reader(), scan, `SELECT digest FROM blobs WHERE digest >= ? AND digest < ? ORDER BY digest`, prefix, prefix+"g") // g comes after all hex digits
	return append(unnamed, names...), err
}

// RemoveBlobs removes those of ds that are still garbage, and returns their number and bytes.
// Pushes and pulls go on; a push that comes too late is told that the blob is missing, and sends it
// again.
func (s *Garbage) RemoveBlobs(ctx context.Context, before time.Time,
	ds []digest.Digest) (removed int, bytes int64, err error) {
	for turn := s.yielding(); len(ds) > 0; {
		var n, looked int
		var freed int64
		err := s.db.Freeing(func() (err error) {
			looked, n, freed, err = s.removeSome(ctx, before, ds, turn)
			return err
		})
		ds = ds[looked:]
		removed, bytes = removed+n, bytes+freed
		if err == nil {
			err = turn.yield(ctx)
		}
		if err != nil {
			return removed, bytes, err
		}
	}
	s.db.Freed()
	return removed, bytes, nil
}

// removeSome removes the first of ds, as many as fit into one turn, and returns how many it has
// checked.
func (s *core) removeSome(ctx context.Context, before time.Time, ds []digest.Digest,
	turn *yielding) (looked, removed int, bytes int64, err error) {
	ds = ds[:min(len(ds), turn.size(removeBatch))]
	for _, d := range ds {
		if err := image.CheckDigest(d); err != nil {
			return 0, 0, 0, err
		}
	}
	old, err := s.findOld(ctx, before, ds)
	if err != nil {
		return 0, 0, 0, err
	}
	var marked []digest.Digest
	defer func() { s.guard.Blobs.Unmark(ctx, marked...) }()
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		turn.begin()
		s.guard.Blobs.Unmark(ctx, marked...) // by a run of this transaction that was rolled back
		marked, looked = nil, 0
		for _, d := range ds {
			gone, err := s.removeRow(context.WithoutCancel(ctx), tx, before, d, old)
			if gone {
				marked = append(marked, d)
			}
			if err != nil {
				return fmt.Errorf("remove blob %s: %w", d, err)
			}
			if looked++; turn.over() {
				break
			}
		}
		return nil
	})
	if err != nil {
		return 0, 0, 0, err
	}
	removed, bytes, err = s.removeFiles(ctx, marked, turn)
	return looked, removed, bytes, err
}

// removeFiles removes the files of marked blobs without a row. The next collection finds those that
// a crash or an error leaves.
func (s *core) removeFiles(ctx context.Context, marked []digest.Digest,
	turn *yielding) (removed int, bytes int64, err error) {
	if s.guard.Backups.Load() > 0 {
		return 0, 0, nil // a backup copies them; the next collection finds the files
	}
	may := s.mayRemove // once for all, unless they take long
	var errs []error
	for _, d := range marked {
		_ = turn.yield(ctx) // an ended ctx does not stop this: the rows are gone
		if err := may(context.WithoutCancel(ctx)); err != nil {
			errs = append(errs, err)
			break
		}
		may = s.mayGoOn
		var size int64
		err := s.guard.Blobs.Remove(ctx, d, func(ctx context.Context) (err error) {
			size, err = s.blobs.Blob(d).Remove(ctx)
			return err
		})
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			errs = append(errs, fmt.Errorf("remove blob %s: %w", d, err))
		default:
			removed, bytes = removed+1, bytes+size
		}
	}
	return removed, bytes, errors.Join(errs...)
}

// removeRow marks a blob if it is still garbage, and deletes its row. It reports whether d is
// marked.
func (s *core) removeRow(ctx context.Context, tx *sql.Tx, before time.Time, d digest.Digest, old oldFunc) (marked bool, err error) {
	unused, err := s.isGarbage(ctx, tx, before, d, old)
	if err != nil || !unused {
		return false, err
	}
	if marked, err = s.guard.Blobs.Mark(ctx, tx, d, before); err != nil || !marked {
		return false, err
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM blobs WHERE digest = ?`, d)
	return true, err
}

const stillGarbage = `SELECT ` + garbage + ` FROM blobs b WHERE b.digest = ?2`

// An oldFunc reports whether the bytes of a blob without a row are old.
type oldFunc func(ctx context.Context, d digest.Digest) (bool, error)

// findOld returns an oldFunc for a transaction. A storage that is asked over the network is asked before,
// since all other writes wait for that. What was put since then has a row, or is in flight: the guard
// spares it then, or has the put place it again.
func (s *core) findOld(ctx context.Context, before time.Time, ds []digest.Digest) (oldFunc, error) {
	look := func(ctx context.Context, d digest.Digest) (bool, error) {
		_, old, err := s.blobs.Blob(d).Old(ctx, before, s.now())
		return old, err
	}
	if s.files != nil {
		return look, nil
	}
	rowless, err := database.Column[digest.Digest](ctx, s.db.Reader(), `SELECT e.value FROM json_each(?) e WHERE NOT EXISTS (SELECT 1 FROM blobs b WHERE b.digest = e.value)`, asJSON(ds))
	if err != nil {
		return nil, fmt.Errorf("look for rows of blobs: %w", err)
	}
	known := map[digest.Digest]bool{} // one whose row was deleted since is left to the next collection
	for _, d := range rowless {
		if known[d], err = look(ctx, d); err != nil {
			return nil, fmt.Errorf("remove blob %s: %w", d, err)
		}
	}
	return func(_ context.Context, d digest.Digest) (bool, error) { return known[d], nil }, nil
}

// isGarbage reports whether the row of a blob is unused, or there is no row and the file is old.
func (s *core) isGarbage(ctx context.Context, tx *sql.Tx, before time.Time, d digest.Digest, old oldFunc) (bool, error) {
	var unused bool
	err := tx.QueryRowContext(ctx, stillGarbage, database.Nanos(before), d).Scan(&unused)
	if !errors.Is(err, sql.ErrNoRows) {
		return unused, err
	}
	if named, err := database.Exists(ctx, tx, referredTo, d); named || err != nil {
		return false, err
	}
	return old(ctx, d)
}

// referredTo selects a pushed image that refers to the blob ?1. A file without a row that one needs
// is all that is left of a blob whose row was damaged, and stays.
const referredTo = `SELECT 1 FROM manifest_refs f JOIN repository_manifests rm ON rm.digest = f.manifest
	WHERE f.digest = ?1 AND f.kind <> 'child' AND f.elsewhere = 0 AND rm.pulled = 0
	AND NOT EXISTS (SELECT 1 FROM quarantine q WHERE q.digest = ?1)`

// StaleRuns yields the open runs without an access since before, but not that of what is followed.
func (s *Garbage) StaleRuns(ctx context.Context, before time.Time, yield func(id string) error) error {
	stale, err := database.Column[string](ctx, s.db.Reader(),
		`SELECT id FROM runs WHERE committed = 0 AND last_seen < ? AND id NOT IN (SELECT run FROM following) ORDER BY id`, database.Nanos(s.staleRuns(before)))
	if err != nil {
		return fmt.Errorf("list runs: %w", err)
	}
	for _, id := range stale {
		if active, err := s.guard.Runs.Active(ctx, s.db.Reader(), id, before); err != nil {
			return fmt.Errorf("list runs: %w", err)
		} else if active {
			continue
		}
		if err := yield(id); err != nil {
			return err
		}
	}
	return nil
}

// RemoveRun aborts a run if it is still stale.
func (s *Garbage) RemoveRun(ctx context.Context, before time.Time, id string) error {
	stale := false
	err := s.db.WriteFreeing(ctx, func(tx *sql.Tx) (err error) {
		stale, err = database.Exists(ctx, tx, `SELECT 1 FROM runs WHERE id = ? AND committed = 0 AND last_seen < ? AND id NOT IN (SELECT run FROM following)`, id, database.Nanos(s.staleRuns(before)))
		var active bool
		if err == nil {
			active, err = s.guard.Runs.Active(ctx, tx, id, before)
		}
		if err != nil {
			return fmt.Errorf("remove run %s: %w", id, err)
		}
		if stale = stale && !active; !stale {
			return nil
		}
		return abort(ctx, tx, id)
	})
	if err == nil && stale {
		s.clearEnded(ctx, id)
	}
	return err
}
