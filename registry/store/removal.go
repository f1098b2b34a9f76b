package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

const (
	// removedLeast and removedMost bound the manifests of a step. A manifest may list thousands, so
	// a removal begins with few, and doubles while a step takes less than removedTime.
	removedLeast = 4
	removedMost  = 256
	removedTime  = 2 * time.Millisecond
)

// removal removes a manifest from a repository, with its children and, if whole, with what belongs
// to it: an index may list thousands of manifests, and each of those again. The rest of a large one
// is saved in the first transaction and done in further ones, after a restart too. In between, a
// deleted manifest may be pushed again.
type removal struct {
	store      *core
	id         string // in the table; "" while all fits into one transaction
	repository int64
	whole      bool                   // with what belongs to the manifests
	left       bool                   // there are rows in the table
	gone       []digest.Digest        // removed so far
	kept       map[digest.Digest]bool // children that are kept
	size       int                    // of the next step
}

// pending is a manifest that a removal has yet to check. It goes with its subject, or if nothing
// keeps it.
type pending struct {
	digest    digest.Digest
	belongsTo digest.Digest
}

// begin removes d, and as much of the rest as fits into one transaction.
func (r *removal) begin(ctx context.Context, tx *sql.Tx, repository int64, d digest.Digest) error {
	began := time.Now()
	r.repository, r.gone, r.kept, r.size, r.left = repository, nil, map[digest.Digest]bool{}, removedLeast, false
	found, err := database.Exists(ctx, tx, `SELECT 1 FROM repository_manifests WHERE repository = ? AND digest = ?`, repository, d)
	if err == nil && !found {
		return &NotFoundError{Kind: "manifest", Name: d.String()}
	}
	var queue []pending
	if err == nil {
		queue, err = r.take(ctx, tx, []digest.Digest{d})
	}
	for len(queue) > 0 && err == nil && time.Since(began) < r.store.part {
		n := min(r.size, len(queue))
		var next []pending
		next, err = r.step(ctx, tx, queue[:n])
		queue = append(queue[n:], next...)
	}
	if err != nil || len(queue) == 0 {
		return err
	}
	random, err := uuid.NewRandom()
	if err != nil {
		return err
	}
	r.id, r.left = random.String(), true
	r.store.removing.Store(r.id, true)
	return r.save(ctx, tx, queue)
}

// finish removes the saved rest, in short transactions.
func (r *removal) finish(ctx context.Context) error {
	defer r.store.removing.Delete(r.id)
	gone := len(r.gone)
	return r.store.inParts(ctx, func(ctx context.Context, part func(tx *sql.Tx) error) error {
		err := r.store.db.WriteFreeing(ctx, func(tx *sql.Tx) error {
			r.gone = r.gone[:gone] // after a retry on a full disk
			return part(tx)
		})
		gone = len(r.gone)
		return err
	}, func(tx *sql.Tx) (more bool, err error) { return r.next(ctx, tx) })
}

// next runs a step on the saved rest.
func (r *removal) next(ctx context.Context, tx *sql.Tx) (more bool, err error) {
	columns := func(p *pending) []any { return []any{&p.digest, &p.belongsTo} }
	some, err := database.List(ctx, tx, columns,
		`SELECT digest, belongs_to FROM removals WHERE id = ? ORDER BY digest LIMIT ?`, r.id, r.size)
	if err != nil || len(some) == 0 {
		return false, err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM removals WHERE id = ? AND digest <= ?`, r.id,
		some[len(some)-1].digest); err != nil {
		return false, err
	}
	next, err := r.step(ctx, tx, some)
	if err == nil && len(next) > 0 {
		err = r.save(ctx, tx, next)
	}
	return true, err
}

// save saves pending manifests.
func (r *removal) save(ctx context.Context, tx *sql.Tx, some []pending) error {
	pairs := make([][2]digest.Digest, len(some))
	for i, p := range some {
		pairs[i] = [2]digest.Digest{p.digest, p.belongsTo}
	}
	text, err := json.Marshal(pairs)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO removals (id, digest, repository, whole, belongs_to)
		SELECT ?1, value ->> 0, ?2, ?3, value ->> 1 FROM json_each(?4) WHERE true
		ON CONFLICT (id, digest) DO UPDATE SET belongs_to = excluded.belongs_to WHERE removals.belongs_to = ''`, r.id, r.repository, r.whole, string(text))
	return err
}

// step removes those of some that go, and returns the manifests to check next.
func (r *removal) step(ctx context.Context, tx *sql.Tx, some []pending) (next []pending, err error) {
	began := time.Now()
	var look, with []digest.Digest
	for _, p := range some {
		if p.belongsTo == "" {
			look = append(look, p.digest)
		} else {
			with = append(with, p.belongsTo)
		}
	}
	going, err := listDigests(ctx, tx, orphans, r.repository, look)
	if err != nil {
		return nil, err
	}
	again, err := listDigests(ctx, tx, allLinked, r.repository, with) // pushed again, with what belongs to it
	if err != nil {
		return nil, err
	}
	for _, p := range some {
		if p.belongsTo == "" || slices.Contains(again, p.belongsTo) {
			continue
		}
		more, err := r.untagMost(ctx, tx, p.digest)
		switch {
		case err != nil:
			return nil, err
		case more:
			next = append(next, p)
		default:
			going = append(going, p.digest)
		}
	}
	for _, d := range look {
		r.kept[d] = true
	}
	found, err := r.take(ctx, tx, going)
	switch took := time.Since(began); {
	case took < removedTime:
		r.size = min(2*r.size, removedMost)
	case took > 2*removedTime:
		r.size = max(r.size/2, removedLeast)
	}
	return append(next, found...), err
}

// untagMost deletes a batch of the tags of a manifest that has very many, and reports whether it
// had.
func (r *removal) untagMost(ctx context.Context, tx *sql.Tx, d digest.Digest) (had bool, err error) {
	had, err = database.Exists(ctx, tx, `SELECT 1 FROM tags WHERE repository = ? AND digest = ? LIMIT 1 OFFSET ?`, r.repository, d, tagBatch)
	if had && err == nil {
		_, err = r.store.untagSome(ctx, tx, r.repository, d)
	}
	return had, err
}

// take removes manifests, and returns those to check next: what belongs to them, and their
// children. Children are checked again when a manifest that they refer to goes.
func (r *removal) take(ctx context.Context, tx *sql.Tx, some []digest.Digest) (next []pending, err error) {
	some, err = listDigests(ctx, tx, allLinked, r.repository, some)
	if err != nil || len(some) == 0 {
		return nil, err
	}
	found := map[digest.Digest]digest.Digest{}
	children, err := listDigests(ctx, tx, allChildren, r.repository, some)
	if err != nil {
		return nil, err
	}
	for _, d := range children {
		found[d] = ""
	}
	if r.whole || len(r.kept) > 0 {
		if err := r.findBelongings(ctx, tx, some, found); err != nil {
			return nil, err
		}
	}
	for _, d := range some {
		delete(found, d)
	}
	r.gone = append(r.gone, some...)
	if err := r.takeOut(ctx, tx, some); err != nil {
		return nil, err
	}
	for _, d := range slices.Sorted(maps.Keys(found)) {
		next = append(next, pending{d, found[d]})
	}
	return next, nil
}

// findBelongings adds what belongs to some manifests to found.
func (r *removal) findBelongings(ctx context.Context, tx *sql.Tx, some []digest.Digest,
	found map[digest.Digest]digest.Digest) error {
	scan := func(rows *sql.Rows) error {
		var d, to digest.Digest
		err := rows.Scan(&d, &to)
		switch {
		case r.whole:
			found[d] = to
		case r.kept[d]:
			found[d] = ""
		}
		return err
	}
	return database.Query(ctx, tx, scan, allBelongings, r.repository, asJSON(some))
}

// takeOut deletes the tags and links of manifests, and the manifests that nothing else has.
func (r *removal) takeOut(ctx context.Context, tx *sql.Tx, some []digest.Digest) error {
	tagged, err := listDigests(ctx, tx, allTagged, r.repository, some)
	if err == nil && len(tagged) > 0 {
		err = r.store.untag(ctx, tx, r.repository, some)
	}
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, unlinkAll, r.repository, asJSON(some)); err != nil {
		return err
	}
	return dropUnlinked(ctx, tx, some...)
}

// finishRemovals continues the removals that a crash interrupted.
func (s *core) finishRemovals(ctx context.Context) error {
	columns := func(r *removal) []any { return []any{&r.id, &r.repository, &r.whole} }
	all, err := database.List(ctx, s.db.Reader(), columns, `SELECT DISTINCT id, repository, whole FROM removals`)
	if err != nil {
		return err
	}
	for _, r := range all {
		r.store, r.kept, r.size = s, map[digest.Digest]bool{}, removedLeast
		if _, underWay := s.removing.Load(r.id); underWay {
			continue
		}
		if err := r.finish(ctx); err != nil {
			return fmt.Errorf("continue a deletion: %w", err)
		}
	}
	return nil
}

// listDigests runs a query about manifests of a repository.
func listDigests(ctx context.Context, q database.Querier, text string, repository int64,
	about []digest.Digest) ([]digest.Digest, error) {
	if len(about) == 0 {
		return nil, nil
	}
	return database.Column[digest.Digest](ctx, q, text, repository, asJSON(about))
}

const (
	// partTime bounds a transaction that is part of a long operation, which pushes wait for.
	partTime = 20 * time.Millisecond

	// stagedStep and droppedStep are how many staged rows, and how many manifests with their
	// references, are deleted between two looks at the clock.
	stagedStep  = 500
	droppedStep = 8
)

// inParts runs steps in transactions of about partTime until a step reports that it was the last.
func (s *core) inParts(ctx context.Context, write func(context.Context, func(*sql.Tx) error) error,
	step func(tx *sql.Tx) (more bool, err error)) error {
	for more := true; more; {
		err := write(ctx, func(tx *sql.Tx) (err error) {
			began := time.Now()
			for more, err = step(tx); more && err == nil && time.Since(began) < s.part; {
				more, err = step(tx)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// abort marks a run as aborted, so that it is not found. clearEnded removes its staged rows.
func abort(ctx context.Context, tx *sql.Tx, id string) error {
	if _, err := tx.ExecContext(ctx, `UPDATE runs SET committed = ? WHERE id = ?`, aborted, id); err != nil {
		return fmt.Errorf("abort run %s: %w", id, err)
	}
	return nil
}

// aborted stands for the time of the commit.
const aborted = -1

// clearEnded removes the staged rows of a committed or aborted run. A failure does not fail the
// commit: Maintain or the next collection removes the rest, which only protects content until then.
func (s *core) clearEnded(ctx context.Context, id string) {
	if err := s.clear(ctx, id); err != nil {
		s.log.Warn("could not remove the staged rows of a run; the next maintenance does", "run", id, "error", err)
	}
}

// finishAll finishes the long operations that a crash interrupted.
func (s *core) finishAll(ctx context.Context) error {
	if err := s.clearAllEnded(ctx); err != nil {
		return err
	}
	return s.finishRemovals(ctx)
}

// clearAllEnded removes the staged rows that a crash or a failure left.
func (s *core) clearAllEnded(ctx context.Context) error {
	ids, err := database.Column[string](ctx, s.db.Reader(), `SELECT id FROM runs r WHERE committed < 0 OR committed > 0 AND (
		EXISTS (SELECT 1 FROM run_tags WHERE run = r.id) OR EXISTS (SELECT 1 FROM run_manifests WHERE run = r.id)
		OR EXISTS (SELECT 1 FROM run_blobs WHERE run = r.id) OR EXISTS (SELECT 1 FROM run_origins WHERE run = r.id))`)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := s.clear(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (s *core) clear(ctx context.Context, id string) error {
	defer s.db.Freed()
	for _, step := range []func(ctx context.Context, tx *sql.Tx, id string) (more bool, err error){
		clearRows("run_tags", "name"), clearRows("run_origins", "tag"), clearManifests, clearRows("run_blobs", "digest"),
	} {
		if err := s.inParts(ctx, s.db.WriteFreeing,
			func(tx *sql.Tx) (bool, error) { return step(ctx, tx, id) }); err != nil {
			return fmt.Errorf("clear run %s: %w", id, err)
		}
	}
	return s.db.WriteFreeing(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM runs WHERE id = ? AND committed < 0`, id)
		return err
	})
}

// clearRows returns a step that deletes staged rows of a table, whose key is run, repository and a
// column.
func clearRows(table, column string) func(ctx context.Context, tx *sql.Tx, id string) (more bool, err error) {
	text := clearing(table, column, stagedStep)
	return func(ctx context.Context, tx *sql.Tx, id string) (bool, error) {
		n, err := database.Affected(ctx, tx, text, id)
		return n > 0, err
	}
}

// clearing deletes the first rows of the run ?1.
func clearing(table, column string, rows int) string {
	return fmt.Sprintf(`DELETE FROM %[1]s WHERE run = ?1 AND (repository, %[2]s) <= (SELECT repository, %[2]s FROM (
		SELECT repository, %[2]s FROM %[1]s WHERE run = ?1 ORDER BY repository, %[2]s LIMIT %[3]d) /* AS page */ ORDER BY repository DESC, %[2]s DESC LIMIT 1)`,
		table, column, rows)
}

var clearingManifests = clearing("run_manifests", "digest", droppedStep) + ` RETURNING digest`

// clearManifests deletes some staged manifests of a run, also as manifests where nothing else has
// them.
func clearManifests(ctx context.Context, tx *sql.Tx, id string) (more bool, err error) {
	staged, err := database.Column[digest.Digest](ctx, tx, clearingManifests, id)
	if err != nil || len(staged) == 0 {
		return false, err
	}
	return true, dropUnlinked(ctx, tx, staged...)
}
