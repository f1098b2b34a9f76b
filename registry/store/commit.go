package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// linkedStep and linkedManifests are how many blobs, and how many manifests, with the thousands of blobs that each may have,
// are looked at between two looks at the clock.
const (
	linkedStep      = 500
	linkedManifests = 4
)

// Commit shows everything that was staged: manifests and tags, all of them in one transaction. The links of the blobs, which
// are far more, are made before that in parts, between which other writes have their turn, and what was staged is cleared
// in parts after it. Asked again, it does nothing.
//
// A blob that is linked early can be read in its repository by those who know its digest, which the run has a right to. It
// stays linked when the commit fails, and goes with a collection, as what a push leaves.
func (r *Run) Commit(ctx context.Context) error {
	s := r.store
	if err := s.guard.Runs.EnterCommit(ctx, r.id); err != nil {
		return err
	}
	defer s.guard.Runs.LeaveCommit(r.id)
	watch := s.recent.links.watch()
	defer s.recent.links.unwatch(watch)
	// What was put into the run before it was being committed, and what was deleted before there was a watch, is in the
	// database when this is.
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

// isCommitted reports whether the run is committed already, and notes that it is alive if not.
func (r *Run) isCommitted(ctx context.Context) (done bool, err error) {
	err = r.store.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		done, err = sqlite.Exists(ctx, tx, `SELECT 1 FROM runs WHERE id = ? AND committed > 0`, r.id)
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

// show makes all of the run visible.
func (r *Run) show(ctx context.Context, watch *linkWatch) error {
	for shown := false; !shown; {
		if err := r.prepare(ctx); err != nil {
			return err
		}
		err := r.store.db.Write(ctx, func(tx *sql.Tx) error {
			lost, many := watch.take()
			if many {
				return nil // more than this transaction is for
			}
			shown = true
			return r.flip(ctx, tx, lost)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// prepare does what can be done before anything is seen, so that little is left to the transaction that shows it.
func (r *Run) prepare(ctx context.Context) error {
	if err := r.checkTags(ctx, r.store.db.Reader()); err != nil {
		return err
	}
	if err := r.linkStaged(ctx); err != nil {
		return fmt.Errorf("commit run %s: %w", r.id, err)
	}
	return nil
}

// checkTags fails when a manifest was deleted since a tag of it was staged.
func (r *Run) checkTags(ctx context.Context, q sqlite.Querier) error {
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

	// Links to the blobs of the run ?1, and to what its manifests are made of, of those after (?3, ?4) up to (?5, ?6). What a
	// manifest is made of was visible in its repository, or part of the run for it, when that was staged: see checkStaged and
	// manifestContent. What went to quarantine since comes back to these repositories, too.
	linkBlobs = []string{`INSERT INTO repository_blobs (repository, digest, linked)
		SELECT r.id, s.digest, ?2 FROM run_blobs s CROSS JOIN repositories r
		WHERE ` + stagedRange + ` AND r.name = s.repository AND ` + unlinked("s.digest")}
	linkParts = []string{
		`INSERT INTO repository_blobs (repository, digest, linked) SELECT r.id, b.digest, ?2 ` + stagedParts + `
			CROSS JOIN blobs b WHERE ` + stagedRange + ` AND ` + isPart + ` AND b.digest = f.digest AND ` + unlinked("f.digest"),
		`INSERT INTO quarantine_links (digest, repository, linked) SELECT q.digest, r.id, ?2 ` + stagedParts + `
			CROSS JOIN quarantine q WHERE ` + stagedRange + ` AND ` + isPart + ` AND q.digest = f.digest ON CONFLICT DO NOTHING`,
	}
)

const (
	stagedRange = `s.run = ?1 AND (s.repository, s.digest) > (?3, ?4) AND (s.repository, s.digest) <= (?5, ?6)`
	stagedParts = `FROM run_manifests s CROSS JOIN repositories r CROSS JOIN manifest_refs f`
	isPart      = `r.name = s.repository AND f.manifest = s.digest AND f.kind <> 'child' AND NOT f.elsewhere`
)

// unlinked says that the repository r has no link of a blob by a push, for a statement that inserts one: to look is cheaper
// than to insert and to find a conflict.
func unlinked(blob string) string {
	return `NOT EXISTS (SELECT 1 FROM repository_blobs l WHERE l.repository = r.id AND l.digest = ` + blob + ` AND l.pulled = 0)
		ON CONFLICT DO UPDATE SET pulled = 0`
}

// linkStaged links the blobs of the run to their repositories, and makes those, in parts.
func (r *Run) linkStaged(ctx context.Context) error {
	if err := r.makeRepositories(ctx); err != nil {
		return err
	}
	for _, links := range []struct {
		table      string
		rows       int
		statements []string
	}{{"run_blobs", linkedStep, linkBlobs}, {"run_manifests", linkedManifests, linkParts}} {
		var last wanted
		err := r.store.inParts(ctx, r.store.db.Write, func(tx *sql.Tx) (more bool, err error) {
			last, more, err = r.linkSome(ctx, tx, links.table, links.rows, links.statements, last)
			return more, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// linkSome does so for some rows of a table after last, and gives the last of these.
func (r *Run) linkSome(ctx context.Context, tx *sql.Tx, table string, rows int, statements []string, last wanted) (end wanted, more bool, err error) {
	err = tx.QueryRowContext(ctx, `SELECT repository, digest FROM (
		SELECT repository, digest FROM `+table+` WHERE run = ?1 AND (repository, digest) > (?2, ?3) ORDER BY repository, digest LIMIT ?4)
		ORDER BY repository DESC, digest DESC LIMIT 1`, r.id, last.repo, last.digest, rows).Scan(&end.repo, &end.digest)
	if errors.Is(err, sql.ErrNoRows) {
		return last, false, nil
	}
	for _, statement := range statements {
		if err != nil {
			break
		}
		_, err = tx.ExecContext(ctx, statement, r.id, sqlite.Nanos(r.store.now()), last.repo, last.digest, end.repo, end.digest)
	}
	return end, true, err
}

func (r *Run) makeRepositories(ctx context.Context) error {
	var names []string
	scan := func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		names = append(names, name)
		return err
	}
	if err := sqlite.Query(ctx, r.store.db.Reader(), scan, newRepositories, r.id); err != nil {
		return err
	}
	for some := range slices.Chunk(names, linkedStep) {
		err := r.store.db.Write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO repositories (name, created) SELECT value, ?2 FROM json_each(?1) WHERE true ON CONFLICT DO NOTHING`,
				asJSON(some), sqlite.Nanos(r.store.now()))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// linkAgain links those of ?3, a JSON array of repositories and digests, that are of the run.
var linkAgain = func() []string {
	const lost = `WITH lost (repository, digest) AS (SELECT r.id, e.value ->> 1 FROM json_each(?3) e CROSS JOIN repositories r WHERE r.id = e.value ->> 0
		AND (EXISTS (SELECT 1 FROM run_blobs s WHERE s.run = ?1 AND s.repository = r.name AND s.digest = e.value ->> 1)
		OR EXISTS (SELECT 1 FROM manifest_refs f CROSS JOIN run_manifests s WHERE f.digest = e.value ->> 1 AND s.run = ?1 AND ` + isPart + `))) `
	return []string{
		lost + `INSERT INTO repository_blobs (repository, digest, linked)
			SELECT l.repository, b.digest, ?2 FROM lost l CROSS JOIN blobs b WHERE b.digest = l.digest ON CONFLICT DO UPDATE SET pulled = 0 WHERE pulled = 1`,
		lost + `INSERT INTO quarantine_links (digest, repository, linked)
			SELECT q.digest, l.repository, ?2 FROM lost l CROSS JOIN quarantine q WHERE q.digest = l.digest ON CONFLICT DO NOTHING`,
	}
}()

// linkLost links again what was linked and is not any more.
func (r *Run) linkLost(ctx context.Context, tx *sql.Tx, lost []use) error {
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
			_, err = tx.ExecContext(ctx, statement, r.id, sqlite.Nanos(r.store.now()), string(text))
		}
	}
	return err
}

// flip makes the manifests and the tags visible, and what was lost of the links of blobs, and marks the run committed. What
// it takes grows with the number of manifests and tags, some microseconds for each.
func (r *Run) flip(ctx context.Context, tx *sql.Tx, lost []use) error {
	if err := r.beat(ctx, tx); err != nil {
		return err
	}
	if err := r.linkLost(ctx, tx, lost); err != nil {
		return fmt.Errorf("commit run %s: %w", r.id, err)
	}
	now := sqlite.Nanos(r.store.now())
	for _, statement := range flipping {
		if _, err := tx.ExecContext(ctx, statement, r.id, now); err != nil {
			if gone := r.checkTags(ctx, tx); errors.Is(gone, ErrNotFound) { // which violates a foreign key
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
		ON CONFLICT DO UPDATE SET pulled = 0, media_type = excluded.media_type WHERE pulled = 1 OR media_type <> excluded.media_type`,
	`UPDATE repository_manifests SET pulled = 0 WHERE pulled = 1 AND (repository, digest) IN (
		SELECT r.id, t.digest FROM run_tags t CROSS JOIN repositories r WHERE t.run = ?1 AND r.name = t.repository AND ?2 = ?2)`,
	`INSERT INTO tag_history (repository, name, was, became, moved, run)
		SELECT r.id, n.name, coalesce(t.digest, ''), n.digest, ?2, ?1 FROM run_tags n CROSS JOIN repositories r
		LEFT JOIN tags t ON t.repository = r.id AND t.name = n.name
		WHERE n.run = ?1 AND r.name = n.repository AND coalesce(t.digest, '') <> n.digest`,
	`INSERT INTO tags (repository, name, digest, updated, checked) SELECT repository, name, became, ?2, 0 FROM tag_history WHERE run = ?1 AND run <> ''
		ON CONFLICT DO UPDATE SET digest = excluded.digest, updated = excluded.updated`,
	`UPDATE runs SET committed = ?2 WHERE id = ?1`,
}
