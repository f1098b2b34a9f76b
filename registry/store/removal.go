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

	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

const (
	// removedLeast and removedMost are how many manifests a step of a removal looks at. A manifest may list thousands, so that it
	// begins with few, and goes on with more while that is quick.
	removedLeast = 4
	removedMost  = 256
	removedTime  = 2 * time.Millisecond
)

// removal takes a manifest out of a repository, with what goes with it: an index may list thousands of manifests, and each of
// those again. What does not fit into one transaction is written down in it, and done in further ones, after a restart too:
// nothing else would ever ask for it again. In between, what was deleted may be pushed again.
type removal struct {
	store      *core
	id         string // in the table; "" while all fits into one transaction
	repository int64
	whole      bool                   // with what belongs to what goes
	left       bool                   // there are rows in the table
	gone       []digest.Digest        // is out
	kept       map[digest.Digest]bool // children of what is out that something else holds
	size       int                    // of the next step
}

// pending is a manifest that a removal has to look at. It goes with the manifest that it belongs to, or else if nothing holds it.
type pending struct {
	digest    digest.Digest
	belongsTo digest.Digest
}

// begin takes d out, and what goes with it as far as that fits into one transaction.
func (r *removal) begin(ctx context.Context, tx *sql.Tx, repository int64, d digest.Digest) error {
	began := time.Now()
	r.repository, r.gone, r.kept, r.size, r.left = repository, nil, map[digest.Digest]bool{}, removedLeast, false
	found, err := sqlite.Exists(ctx, tx, `SELECT 1 FROM repository_manifests WHERE repository = ? AND digest = ?`, repository, d)
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

// finish does the rest of what is written down, in parts.
func (r *removal) finish(ctx context.Context) error {
	defer r.store.removing.Delete(r.id)
	gone := len(r.gone)
	return r.store.inParts(ctx, func(ctx context.Context, part func(tx *sql.Tx) error) error {
		err := r.store.db.WriteFreeing(ctx, func(tx *sql.Tx) error {
			r.gone = r.gone[:gone] // again, when the disk was full
			return part(tx)
		})
		gone = len(r.gone)
		return err
	}, func(tx *sql.Tx) (more bool, err error) { return r.next(ctx, tx) })
}

// next does a step of what is written down.
func (r *removal) next(ctx context.Context, tx *sql.Tx) (more bool, err error) {
	var some []pending
	scan := func(rows *sql.Rows) error {
		var p pending
		err := rows.Scan(&p.digest, &p.belongsTo)
		some = append(some, p)
		return err
	}
	err = sqlite.Query(ctx, tx, scan, `SELECT digest, belongs_to FROM removals WHERE id = ? ORDER BY digest LIMIT ?`, r.id, r.size)
	if err != nil || len(some) == 0 {
		return false, err
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM removals WHERE id = ? AND digest <= ?`, r.id, some[len(some)-1].digest); err != nil {
		return false, err
	}
	next, err := r.step(ctx, tx, some)
	if err == nil && len(next) > 0 {
		err = r.save(ctx, tx, next)
	}
	return true, err
}

// save writes down what is to be looked at.
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
		ON CONFLICT DO UPDATE SET belongs_to = excluded.belongs_to WHERE belongs_to = ''`, r.id, r.repository, r.whole, string(text))
	return err
}

// step takes those of some out that go, and gives what is to be looked at next.
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
	again, err := listDigests(ctx, tx, allHeld, r.repository, with) // was pushed again, with what belongs to it
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

// untagMost deletes some of the tags of a manifest that has very many, and reports whether it had.
func (r *removal) untagMost(ctx context.Context, tx *sql.Tx, d digest.Digest) (had bool, err error) {
	had, err = sqlite.Exists(ctx, tx, fmt.Sprintf(`SELECT 1 FROM (SELECT 1 FROM tags WHERE repository = ? AND digest = ? LIMIT 1 OFFSET %d)`, tagBatch), r.repository, d)
	if had && err == nil {
		_, err = r.store.untagSome(ctx, tx, r.repository, d)
	}
	return had, err
}

// take takes some manifests out, and gives those that are to be looked at next: what belongs to them, and their children.
// Children are looked at again when what they refer to goes.
func (r *removal) take(ctx context.Context, tx *sql.Tx, some []digest.Digest) (next []pending, err error) {
	some, err = listDigests(ctx, tx, allHeld, r.repository, some)
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

// findBelongings adds what belongs to some manifests to what was found.
func (r *removal) findBelongings(ctx context.Context, tx *sql.Tx, some []digest.Digest, found map[digest.Digest]digest.Digest) error {
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
	return sqlite.Query(ctx, tx, scan, allBelongings, r.repository, asJSON(some))
}

// takeOut deletes the tags and the links of some manifests, and the manifests that no other repository has.
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
	return dropUnheld(ctx, tx, some...)
}

// finishRemovals goes on with the deletions that a crash has cut short.
func (s *core) finishRemovals(ctx context.Context) error {
	var all []*removal
	scan := func(rows *sql.Rows) error {
		r := &removal{store: s, kept: map[digest.Digest]bool{}, size: removedLeast}
		err := rows.Scan(&r.id, &r.repository, &r.whole)
		all = append(all, r)
		return err
	}
	if err := sqlite.Query(ctx, s.db.Reader(), scan, `SELECT DISTINCT id, repository, whole FROM removals`); err != nil {
		return err
	}
	for _, r := range all {
		if _, underWay := s.removing.Load(r.id); underWay {
			continue
		}
		if err := r.finish(ctx); err != nil {
			return fmt.Errorf("go on with a deletion: %w", err)
		}
	}
	return nil
}

// listDigests runs a query about some manifests of a repository.
func listDigests(ctx context.Context, q sqlite.Querier, text string, repository int64, about []digest.Digest) (ds []digest.Digest, err error) {
	if len(about) == 0 {
		return nil, nil
	}
	scan := func(rows *sql.Rows) error {
		var d digest.Digest
		err := rows.Scan(&d)
		ds = append(ds, d)
		return err
	}
	err = sqlite.Query(ctx, q, scan, text, repository, asJSON(about))
	return ds, err
}
