package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// linkedStep and linkedManifests are how many blobs, and how many manifests with their references,
// are linked between two looks at the clock.
const (
	linkedStep      = 500
	linkedManifests = 4
)

// Commit shows the manifests and tags of the run, in one transaction. It links the blobs, which are
// far more, before that in short transactions, between which other writes have their turn, and
// deletes the staged rows in short ones after it. It is idempotent.
//
// A blob that is linked early can be read in its repository by its digest, which the run has a
// right to. When the commit fails, the link stays until a collection, as that of a push does.
func (r *Run) Commit(ctx context.Context) error {
	s := r.store
	if err := s.guard.Runs.EnterCommit(ctx, r.id); err != nil {
		return err
	}
	defer s.guard.Runs.LeaveCommit(r.id)
	watch, err := s.guard.Runs.Watch(ctx, r.id)
	if err != nil {
		return err
	}
	defer watch.End()
	// After this transaction, earlier writes to the run and earlier deletions of
	// links are in the database.
	done, err := r.isCommitted(ctx)
	if err == nil && !done {
		err = r.show(ctx, watch)
	}
	if err != nil || done {
		return err
	}
	s.clearEnded(ctx, r.id)
	return nil
}

// isCommitted reports whether the run is committed, and records its last access if not.
func (r *Run) isCommitted(ctx context.Context) (done bool, err error) {
	err = r.store.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		done, err = database.Exists(ctx, tx, `SELECT 1 FROM runs WHERE id = ? AND committed > 0`, r.id)
		if err != nil {
			return fmt.Errorf("commit run %s: %w", r.id, err)
		}
		if done {
			return nil
		}
		return r.beat(ctx, tx)
	})
	return done, err
}

// show makes the whole run visible.
func (r *Run) show(ctx context.Context, watch lostLinks) error {
	for shown := false; !shown; {
		if err := errors.Join(watch.Again(ctx), r.prepare(ctx)); err != nil {
			return err
		}
		err := r.store.db.Write(ctx, func(tx *sql.Tx) error {
			lost, many, err := watch.Take(ctx, tx)
			if shown = err == nil && !many; !shown {
				return err // or they are too many for this transaction
			}
			return r.flip(ctx, tx, lost)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// prepare does as much as possible before the transaction that shows the run.
func (r *Run) prepare(ctx context.Context) error {
	if err := r.checkTags(ctx, r.store.db.Reader()); err != nil {
		return err
	}
	if err := r.linkStaged(ctx); err != nil {
		return fmt.Errorf("commit run %s: %w", r.id, err)
	}
	return nil
}

// checkTags returns an error when a manifest was deleted since a tag of it was staged.
func (r *Run) checkTags(ctx context.Context, q database.Querier) error {
	var gone digest.Digest
	err := q.QueryRowContext(ctx, danglingTag, r.id).Scan(&gone)
	switch {
	case err == nil:
		return &NotFoundError{Kind: "manifest", Name: gone.String()}
	case !errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("commit run %s: %w", r.id, err)
	}
	return nil
}

var (
	danglingTag = `SELECT t.digest FROM run_tags t WHERE t.run = ?1
		AND NOT EXISTS (SELECT 1 FROM run_manifests m WHERE m.run = ?1 AND m.repository = t.repository AND m.digest = t.digest)
		AND NOT EXISTS (SELECT 1 FROM repositories r CROSS JOIN repository_manifests l
			WHERE r.name = t.repository AND l.repository = r.id AND l.digest = t.digest) LIMIT 1`

	newRepositories = `SELECT repository FROM run_manifests m WHERE run = ?1 AND NOT EXISTS (SELECT 1 FROM repositories WHERE name = m.repository)
		UNION SELECT repository FROM run_blobs b WHERE run = ?1 AND NOT EXISTS (SELECT 1 FROM repositories WHERE name = b.repository)`

	// Links of the blobs of the run ?1, and of the references of its manifests, after (?3, ?4) up
	// to (?5, ?6). requires and manifestContent made sure that the repository may have these. A
	// blob that has gone to quarantine since comes back to these repositories, too.
	linkBlobs = []string{`INSERT INTO repository_blobs (repository, digest, linked)
		SELECT r.id, s.digest, ?2 FROM run_blobs s CROSS JOIN repositories r
		WHERE ` + stagedRange + ` AND r.name = s.repository AND ` + unlinked("s.digest")}
	linkReferences = []string{
		`INSERT INTO repository_blobs (repository, digest, linked) SELECT r.id, b.digest, ?2 ` + stagedReferences + `
			CROSS JOIN blobs b WHERE ` + stagedRange + ` AND ` + isReference + ` AND b.digest = f.digest AND ` + unlinked("f.digest"),
		`INSERT INTO quarantine_links (digest, repository, linked) SELECT q.digest, r.id, ?2 ` + stagedReferences + `
			CROSS JOIN quarantine q WHERE ` + stagedRange + ` AND ` + isReference + ` AND q.digest = f.digest ON CONFLICT DO NOTHING`,
	}
)

const (
	stagedRange      = `s.run = ?1 AND (s.repository, s.digest) > (?3, ?4) AND (s.repository, s.digest) <= (?5, ?6)`
	stagedReferences = `FROM run_manifests s CROSS JOIN repositories r CROSS JOIN manifest_refs f`
	isReference      = `r.name = s.repository AND f.manifest = s.digest AND f.kind <> 'child' AND f.elsewhere = 0`
)

// unlinked reports whether the repository r has no pushed link of a blob, for an insert of one: it
// is cheaper than a conflict.
func unlinked(blob string) string {
	return `NOT EXISTS (SELECT 1 FROM repository_blobs l WHERE l.repository = r.id AND l.digest = ` + blob + ` AND l.pulled = 0)
		ON CONFLICT (repository, digest) DO UPDATE SET pulled = 0`
}

// linkStaged creates the repositories of the run and links its blobs, in short transactions.
func (r *Run) linkStaged(ctx context.Context) error {
	if err := r.makeRepositories(ctx); err != nil {
		return err
	}
	for _, links := range []struct {
		table      string
		rows       int
		statements []string
	}{{"run_blobs", linkedStep, linkBlobs}, {"run_manifests", linkedManifests, linkReferences}} {
		if err := r.linkParts(ctx, links.table, links.rows, links.statements); err != nil {
			return err
		}
	}
	return nil
}

// linkParts links for all rows of a table, in short transactions.
func (r *Run) linkParts(ctx context.Context, table string, rows int, statements []string) error {
	var committed, last wanted
	write := func(ctx context.Context, part func(tx *sql.Tx) error) error {
		err := r.store.db.Write(ctx, func(tx *sql.Tx) error {
			last = committed // also when the transaction runs again
			return part(tx)
		})
		committed = last
		return err
	}
	return r.store.inParts(ctx, write, func(tx *sql.Tx) (more bool, err error) {
		last, more, err = r.linkSome(ctx, tx, table, rows, statements, last)
		return more, err
	})
}

// lastStaged selects the last of the next rows of a table.
func lastStaged(table string) string {
	return `SELECT repository, digest FROM (SELECT repository, digest FROM ` + table + `
		WHERE run = ?1 AND (repository, digest) > (?2, ?3) ORDER BY repository, digest LIMIT ?4) /* AS page */
		ORDER BY repository DESC, digest DESC LIMIT 1`
}

// linkSome links for some rows of a table after last, and returns the last of these.
func (r *Run) linkSome(ctx context.Context, tx *sql.Tx, table string, rows int, statements []string,
	last wanted) (end wanted, more bool, err error) {
	err = tx.QueryRowContext(ctx, lastStaged(table), r.id, last.repo, last.digest, rows).Scan(&end.repo, &end.digest)
	if errors.Is(err, sql.ErrNoRows) {
		return last, false, nil
	}
	for _, statement := range statements {
		if err != nil {
			break
		}
		_, err = tx.ExecContext(ctx, statement, r.id, database.Nanos(r.store.now()), last.repo,
			last.digest, end.repo, end.digest)
	}
	return end, true, err
}

func (r *Run) makeRepositories(ctx context.Context) error {
	names, err := database.Column[string](ctx, r.store.db.Reader(), newRepositories, r.id)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(names, linkedStep) {
		err := r.store.db.Write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO repositories (name, created) SELECT value, ?2 FROM json_each(?1) WHERE true ON CONFLICT DO NOTHING`,
				asJSON(some), database.Nanos(r.store.now()))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// linkAgain links those pairs of ?3, a JSON array of repository and digest, that belong to the run.
var linkAgain = func() []string {
	const lost = `WITH lost (repository, digest) AS (SELECT r.id, e.value ->> 1 FROM json_each(?3) e CROSS JOIN repositories r WHERE r.id = CAST(e.value ->> 0 AS BIGINT)
		AND (EXISTS (SELECT 1 FROM run_blobs s WHERE s.run = ?1 AND s.repository = r.name AND s.digest = e.value ->> 1)
		OR EXISTS (SELECT 1 FROM manifest_refs f CROSS JOIN run_manifests s WHERE f.digest = e.value ->> 1 AND s.run = ?1 AND ` + isReference + `))) `
	return []string{
		lost + `INSERT INTO repository_blobs (repository, digest, linked)
			SELECT l.repository, b.digest, ?2 FROM lost l CROSS JOIN blobs b WHERE b.digest = l.digest ON CONFLICT (repository, digest) DO UPDATE SET pulled = 0 WHERE repository_blobs.pulled = 1`,
		lost + `INSERT INTO quarantine_links (digest, repository, linked)
			SELECT q.digest, l.repository, ?2 FROM lost l CROSS JOIN quarantine q WHERE q.digest = l.digest ON CONFLICT DO NOTHING`,
	}
}()

// linkLost links blobs again whose links were deleted since.
func (r *Run) linkLost(ctx context.Context, tx *sql.Tx, lost []linkKey) error {
	if len(lost) == 0 {
		return nil
	}
	pairs := make([][2]any, len(lost))
	for i, u := range lost {
		pairs[i] = [2]any{u.repository, u.digest}
	}
	text, err := json.Marshal(pairs)
	for _, statement := range linkAgain {
		if err == nil {
			_, err = tx.ExecContext(ctx, statement, r.id, database.Nanos(r.store.now()), string(text))
		}
	}
	return err
}

// flip makes manifests and tags visible, links lost blobs, and marks the run committed. It takes
// some microseconds for each manifest and tag.
func (r *Run) flip(ctx context.Context, tx *sql.Tx, lost []linkKey) error {
	if err := r.beat(ctx, tx); err != nil {
		return err
	}
	if err := r.linkLost(ctx, tx, lost); err != nil {
		return fmt.Errorf("commit run %s: %w", r.id, err)
	}
	now := database.Nanos(r.store.now())
	for _, statement := range flipping {
		if _, err := tx.ExecContext(ctx, statement, r.id, now); err != nil {
			// A tag without its manifest violates a foreign key, after which PostgreSQL's transaction reads no more.
			if gone := r.checkTags(ctx, r.store.db.Reader()); errors.Is(gone, ErrNotFound) {
				return gone
			}
			return fmt.Errorf("commit run %s: %w", r.id, err)
		}
	}
	return nil
}

var flipping = []string{
	`INSERT INTO repository_manifests (repository, digest, linked, media_type)
		SELECT r.id, m.digest, ?2, m.media_type FROM run_manifests m CROSS JOIN repositories r WHERE m.run = ?1 AND r.name = m.repository
		ON CONFLICT (repository, digest) DO UPDATE SET pulled = 0, media_type = excluded.media_type
		WHERE repository_manifests.pulled <> 0 OR repository_manifests.media_type <> excluded.media_type`,
	`UPDATE repository_manifests SET pulled = 0 WHERE pulled <> 0 AND (repository, digest) IN (
		SELECT r.id, t.digest FROM run_tags t CROSS JOIN repositories r WHERE t.run = ?1 AND r.name = t.repository AND ?2 = ?2)`,
	`INSERT INTO tag_history (repository, name, was, became, moved, run)
		SELECT r.id, n.name, coalesce(t.digest, ''), n.digest, ?2, ?1 FROM run_tags n CROSS JOIN repositories r
		LEFT JOIN tags t ON t.repository = r.id AND t.name = n.name
		WHERE n.run = ?1 AND r.name = n.repository AND coalesce(t.digest, '') <> n.digest`,
	`INSERT INTO tags (repository, name, digest, updated, checked) SELECT repository, name, became, ?2, 0 FROM tag_history WHERE run = ?1 AND run <> ''
		ON CONFLICT (repository, name) DO UPDATE SET digest = excluded.digest, updated = excluded.updated`,
	showOrigins,
	`UPDATE runs SET committed = ?2 WHERE id = ?1`,
}

// linkWatches are those of the runs that are being committed. The database names each deleted link
// of a blob, so a new method that deletes cannot miss it.
type linkWatches struct {
	watching sync.Mutex // guards what follows
	all      map[*linkWatch]bool
}

// lostKept bounds the links that the transaction of a commit makes again.
const lostKept = 2000

// linkWatch records deleted links of blobs, also those of a transaction that is rolled back.
type linkWatch struct {
	of   *linkWatches
	lost map[linkKey]bool
	many bool // more than lostKept
}

// watch begins a watch of the transactions that begin later. The caller ends it with unwatch.
func (w *linkWatches) watch() *linkWatch {
	w.watching.Lock()
	defer w.watching.Unlock()
	if w.all == nil {
		w.all = map[*linkWatch]bool{}
	}
	one := &linkWatch{of: w, lost: map[linkKey]bool{}}
	w.all[one] = true
	return one
}

func (w *linkWatches) unwatch(one *linkWatch) {
	w.watching.Lock()
	defer w.watching.Unlock()
	delete(w.all, one)
}

// note is called for each row of repository_blobs that changes, before the commit.
func (w *linkWatches) note(row database.Change) {
	w.watching.Lock()
	defer w.watching.Unlock()
	if row.Op != database.Delete || len(w.all) == 0 {
		return
	}
	columns := make([]any, 2) // which the engine sets
	err := row.Old(columns...)
	id, isID := columns[0].(int64)
	d, isDigest := columns[1].(string)
	for one := range w.all {
		if err != nil || !isID || !isDigest || len(one.lost) >= lostKept {
			one.many = true
			continue
		}
		one.lost[linkKey{id, digest.Digest(d)}] = true
	}
}

// noteAll is called when any link may have been deleted.
func (w *linkWatches) noteAll() {
	w.watching.Lock()
	defer w.watching.Unlock()
	for one := range w.all {
		one.many = true
	}
}

// take returns the links that were deleted since the last call; many means too many for one
// transaction.
func (one *linkWatch) take() (lost []linkKey, many bool) {
	one.of.watching.Lock()
	defer one.of.watching.Unlock()
	for u := range one.lost {
		lost = append(lost, u)
	}
	many = one.many
	clear(one.lost)
	one.many = false
	return lost, many
}
