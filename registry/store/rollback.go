package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// PastRun is a run that was committed, or a rollback.
type PastRun struct {
	ID, Name  string
	Committed time.Time
	Tags      int // that it moved
}

// Past lists the last n runs that were committed, the latest first: all if n is negative, and none
// whose name begins with without, or that was committed after the run after, unless that is "".
func (s *Runs) Past(ctx context.Context, n int, without, after string) ([]PastRun, error) {
	var all []PastRun
	if n < 0 {
		n = math.MaxInt // PostgreSQL refuses a negative limit
	}
	scan := func(rows *sql.Rows) error {
		var r PastRun
		var committed int64
		err := rows.Scan(&r.ID, &r.Name, &committed, &r.Tags)
		r.Committed = database.Time(committed)
		all = append(all, r)
		return err
	}
	err := database.Query(ctx, s.db.Reader(), scan, `SELECT id, name, committed, (SELECT count(*) FROM tag_history WHERE run = r.id AND run <> '')
		FROM runs r WHERE committed > 0 AND (?1 = '' OR substr(name, 1, length(?1)) <> ?1)
		AND (?3 = '' OR committed < (SELECT committed FROM runs WHERE id = ?3) OR committed = (SELECT committed FROM runs WHERE id = ?3) AND id > ?3)
		ORDER BY committed DESC, id LIMIT ?2`, without, n, after)
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	return all, nil
}

// Rollback is what a rollback does to tags.
type Rollback struct {
	ID    string // of the rollback, which can be rolled back itself; "" of a plan, or if nothing moved
	Moved []TagChange
	Left  []TagChange // tags that were moved or deleted after the run; they stay
}

// TagChange is a tag that names another manifest, or "" for none.
type TagChange struct {
	Repository, Name string
	Was, Became      digest.Digest
}

// RunChange is a tag that a run moved, and what it names now: "" for none.
type RunChange struct {
	TagChange
	Now digest.Digest
}

// Changes lists the first n tags that a run moved, by repository and name, of those after one. A run
// that is not known is a *NotFoundError.
func (s *Runs) Changes(ctx context.Context, id, repository, tag string, n int) ([]RunChange, error) {
	failed := func(err error) error { return fmt.Errorf("list what run %s moved: %w", image.Quote(id), err) }
	if err := checkCommitted(ctx, s.db.Reader(), id); err != nil {
		return nil, failed(err)
	}
	var all []RunChange
	scan := func(rows *sql.Rows) error {
		var c RunChange
		err := rows.Scan(&c.Repository, &c.Name, &c.Was, &c.Became, &c.Now)
		all = append(all, c)
		return err
	}
	err := database.Query(ctx, s.db.Reader(), scan, `SELECT r.name, h.name, h.was, h.became, coalesce(t.digest, '')
		FROM tag_history h CROSS JOIN repositories r ON r.id = h.repository
		LEFT JOIN tags t ON t.repository = h.repository AND t.name = h.name
		WHERE h.run = ?1 AND h.run <> '' AND (r.name, h.name) > (?2, ?3) ORDER BY r.name, h.name LIMIT ?4`, id, repository, tag, n)
	if err != nil {
		return nil, failed(err)
	}
	return all, nil
}

// checkCommitted returns a *NotFoundError unless a run was committed.
func checkCommitted(ctx context.Context, q database.Querier, id string) error {
	var committed int64
	err := q.QueryRowContext(ctx, `SELECT committed FROM runs WHERE id = ?`, id).Scan(&committed)
	if errors.Is(err, sql.ErrNoRows) || err == nil && committed <= 0 {
		return hint.New(&NotFoundError{Kind: "committed run", Name: image.Quote(id)}, "appliance mirror rollback --list shows which there are")
	}
	return err
}

// PlanRollback returns what Rollback would do.
func (s *Runs) PlanRollback(ctx context.Context, id string) (Rollback, error) {
	r, err := planRollback(ctx, s.db.Reader(), id)
	if err != nil {
		return Rollback{}, fmt.Errorf("plan the rollback of run %s: %w", image.Quote(id), err)
	}
	return r, nil
}

// Rollback gives the tags that a run moved their manifests of before the run, in one transaction. A
// tag that something else has moved since stays. A manifest that was deleted since is a
// *NotFoundError, a tag that would go while an attached cluster needs its image is a *KeptError, and no
// tag moves then. Manifests that the run brought can still be read by digest. If no tag moves, nothing is
// recorded.
func (s *Runs) Rollback(ctx context.Context, id string) (Rollback, error) {
	random, err := uuid.NewRandom()
	if err != nil {
		return Rollback{}, fmt.Errorf("roll back: %w", err)
	}
	var done Rollback
	err = s.db.WriteFreeing(ctx, func(tx *sql.Tx) (err error) {
		if done, err = planRollback(ctx, tx, id); err != nil || len(done.Moved) == 0 {
			return err
		}
		now := database.Nanos(s.now())
		for _, statement := range rollingBack {
			if _, err := tx.ExecContext(ctx, statement, id, random.String(), now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Rollback{}, fmt.Errorf("roll back run %s: %w", image.Quote(id), err)
	}
	if len(done.Moved) > 0 {
		done.ID = random.String()
	}
	return done, nil
}

// planRollback reads the moves of a run.
func planRollback(ctx context.Context, q database.Querier, id string) (r Rollback, err error) {
	if err := checkCommitted(ctx, q, id); err != nil {
		return r, err
	}
	var repositories []int64 // of r.Moved
	scan := func(rows *sql.Rows) error {
		var c TagChange
		var repository int64
		var now digest.Digest
		var exists bool
		if err := rows.Scan(&repository, &c.Repository, &c.Name, &c.Was, &c.Became, &now, &exists); err != nil {
			return err
		}
		switch {
		case now != c.Was:
			c.Was, c.Became = now, now
			r.Left = append(r.Left, c)
			return nil
		case !exists:
			return &NotFoundError{Kind: "manifest",
				Name: fmt.Sprintf("%s of %s:%s before the run", c.Became, c.Repository, c.Name)}
		}
		r.Moved, repositories = append(r.Moved, c), append(repositories, repository)
		return nil
	}
	err = database.Query(ctx, q, scan, runMoves, id)
	for i, c := range r.Moved {
		if err == nil && c.Became == "" {
			err = checkKept(ctx, q, repositories[i], c.Was, c.Repository+":"+c.Name)
		}
	}
	return r, err
}

var (
	// runMoves selects how each tag would move back, what it names now, and whether its manifest of
	// before still exists.
	runMoves = `SELECT r.id, r.name, h.name, h.became, h.was, coalesce(t.digest, ''),
		h.was = '' OR EXISTS (SELECT 1 FROM repository_manifests m WHERE m.repository = h.repository AND m.digest = h.was)
		FROM tag_history h CROSS JOIN repositories r ON r.id = h.repository
		LEFT JOIN tags t ON t.repository = h.repository AND t.name = h.name
		WHERE h.run = ?1 AND h.run <> '' ORDER BY r.name, h.name`

	// rollingBack records a rollback ?2 of the run ?1 as a run of its own, and moves its tags.
	rollingBack = []string{
		`INSERT INTO runs (id, name, started, last_seen, committed)
			SELECT ?2, '` + rollbackOf + `' || id, ?3, ?3, ?3 FROM runs WHERE id = ?1`,
		`INSERT INTO tag_history (repository, name, was, became, moved, run)
			SELECT h.repository, h.name, h.became, h.was, ?3, ?2 FROM tag_history h
			LEFT JOIN tags t ON t.repository = h.repository AND t.name = h.name
			WHERE h.run = ?1 AND h.run <> '' AND coalesce(t.digest, '') = h.became`,
		`DELETE FROM tags WHERE ?1 = ?1 AND ?3 = ?3 AND (repository, name) IN
			(SELECT repository, name FROM tag_history WHERE run = ?2 AND run <> '' AND became = '')`,
		`INSERT INTO tags (repository, name, digest, updated, checked)
			SELECT repository, name, became, ?3, 0 FROM tag_history WHERE run = ?2 AND run <> '' AND became <> '' AND ?1 = ?1
			ON CONFLICT (repository, name) DO UPDATE SET digest = excluded.digest, updated = excluded.updated`,
	}
)

// rollbackOf begins the name of a rollback, which the id of its run ends.
const rollbackOf = "rollback of "

// RollsBack returns the run that was rolled back, "" for one that is not a rollback.
func (r PastRun) RollsBack() string {
	of, _ := strings.CutPrefix(r.Name, rollbackOf)
	if of == r.Name {
		return ""
	}
	return of
}
