package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

const (
	// partTime is about how long a transaction takes that is part of something long, and that pushes wait for.
	partTime = 20 * time.Millisecond

	// stagedStep and droppedStep are how many rows that were staged, and how many manifests, with the thousands of references
	// that each may have, go between two looks at the clock.
	stagedStep  = 500
	droppedStep = 8
)

// inParts runs steps in transactions of their own until one says that there are no more. A transaction takes as many as fit
// into partTime.
func (s *core) inParts(ctx context.Context, write func(context.Context, func(*sql.Tx) error) error, step func(tx *sql.Tx) (more bool, err error)) error {
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

// abort has a run forgotten: from then on it is not found, and clearEnded removes what it has staged.
func abort(ctx context.Context, tx *sql.Tx, id string) error {
	if _, err := tx.ExecContext(ctx, `UPDATE runs SET committed = ? WHERE id = ?`, aborted, id); err != nil {
		return fmt.Errorf("abort run %s: %w", id, err)
	}
	return nil
}

// aborted stands where a committed run has its time.
const aborted = -1

// clearEnded removes the staged rows of a run that is committed or aborted. A failure does not fail the commit: Maintain or
// the next collection removes what is left, which only keeps blobs and manifests from collection until then.
func (s *core) clearEnded(ctx context.Context, id string) {
	if err := s.clear(ctx, id); err != nil {
		s.log.Warn("could not remove what a run has staged; it is done later", "run", id, "error", err)
	}
}

// finishAll does the rest of what comes in parts and a crash has cut short.
func (s *core) finishAll(ctx context.Context) error {
	if err := s.clearAllEnded(ctx); err != nil {
		return err
	}
	return s.finishRemovals(ctx)
}

// clearAllEnded removes what a crash, or a failure, has left of that.
func (s *core) clearAllEnded(ctx context.Context) error {
	var ids []string
	scan := func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		ids = append(ids, id)
		return err
	}
	err := sqlite.Query(ctx, s.db.Reader(), scan, `SELECT id FROM runs r WHERE committed < 0 OR committed > 0 AND (
		EXISTS (SELECT 1 FROM run_tags WHERE run = r.id) OR EXISTS (SELECT 1 FROM run_manifests WHERE run = r.id)
		OR EXISTS (SELECT 1 FROM run_blobs WHERE run = r.id))`)
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
		clearRows("run_tags", "name"), clearManifests, clearRows("run_blobs", "digest"),
	} {
		if err := s.inParts(ctx, s.db.WriteFreeing, func(tx *sql.Tx) (bool, error) { return step(ctx, tx, id) }); err != nil {
			return fmt.Errorf("clear run %s: %w", id, err)
		}
	}
	return s.db.WriteFreeing(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM runs WHERE id = ? AND committed < 0`, id)
		return err
	})
}

// clearRows deletes some of the rows that a run has staged in a table, the key of which is run, repository and a column.
func clearRows(table, column string) func(ctx context.Context, tx *sql.Tx, id string) (more bool, err error) {
	text := clearing(table, column, stagedStep)
	return func(ctx context.Context, tx *sql.Tx, id string) (bool, error) {
		n, err := sqlite.Affected(ctx, tx, text, id)
		return n > 0, err
	}
}

// clearing deletes the first rows of the run ?1.
func clearing(table, column string, rows int) string {
	return fmt.Sprintf(`DELETE FROM %[1]s WHERE run = ?1 AND (repository, %[2]s) <= (SELECT repository, %[2]s FROM (
		SELECT repository, %[2]s FROM %[1]s WHERE run = ?1 ORDER BY repository, %[2]s LIMIT %[3]d) ORDER BY repository DESC, %[2]s DESC LIMIT 1)`,
		table, column, rows)
}

var clearingManifests = clearing("run_manifests", "digest", droppedStep) + ` RETURNING digest`

// clearManifests deletes some of the manifests that a run has staged, and those that nothing else has.
func clearManifests(ctx context.Context, tx *sql.Tx, id string) (more bool, err error) {
	var staged []digest.Digest
	scan := func(rows *sql.Rows) error {
		var d digest.Digest
		err := rows.Scan(&d)
		staged = append(staged, d)
		return err
	}
	if err := sqlite.Query(ctx, tx, scan, clearingManifests, id); err != nil || len(staged) == 0 {
		return false, err
	}
	return true, dropUnheld(ctx, tx, staged...)
}
