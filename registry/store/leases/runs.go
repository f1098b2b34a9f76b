package leases

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/guard"
)

// Runs knows which runs are alive, at whichever daemons they are. A run is committed by one daemon at a
// time. That a run is in use at this one is in memory, and in its row by Tidy.
type Runs struct {
	guard.Runs

	claims *claims
	now    func() time.Time
}

// EnterCommit waits until no daemon commits a run, and reserves it for the caller until LeaveCommit.
func (r *Runs) EnterCommit(ctx context.Context, id string) error {
	of := claim{commit, id}
	err := r.claims.wait(ctx, of, 0, func() (taken bool, err error) {
		err = r.claims.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
			taken, err = r.claims.in(ctx, tx, of)
			return err
		})
		if taken && err != nil {
			r.claims.abandon(of)
		}
		return taken && err == nil, err
	})
	if err == nil {
		r.Enter(id)
	}
	return err
}

// LeaveCommit ends EnterCommit.
func (r *Runs) LeaveCommit(id string) {
	r.Leave(id)
	r.claims.release(claim{commit, id}, func(ctx context.Context, of claim, member string) error {
		return r.claims.giveIn(ctx, of, member, forgetLost)
	})
}

// forgetLost deletes what no commit needs.
func forgetLost(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM lost_links WHERE NOT EXISTS (SELECT 1 FROM claims WHERE kind = 'commit')`)
	return err
}

const committing = `SELECT 1 FROM claims c JOIN daemons d ON d.id = c.daemon WHERE c.kind = 'commit' AND c.id = ?`

// Committing reports whether a daemon commits a run.
func (r *Runs) Committing(ctx context.Context, q database.Querier, id string) (bool, error) {
	return database.Exists(ctx, q, committing, id)
}

// Active reports whether a run is in use here since before, or is being committed.
func (r *Runs) Active(ctx context.Context, q database.Querier, id string, before time.Time) (bool, error) {
	if r.Runs.Active(id, before) {
		return true, nil
	}
	return r.Committing(ctx, q, id)
}

// beat records in their rows that runs are in use here.
func (r *Runs) beat(ctx context.Context) error {
	ids := r.Entered()
	if len(ids) == 0 {
		return nil
	}
	return r.claims.db.Write(ctx, func(tx *sql.Tx) error {
		for _, id := range ids {
			if _, err := tx.ExecContext(ctx, `UPDATE runs SET last_seen = max(last_seen, ?) WHERE id = ? AND committed = 0`, database.Nanos(r.now()), id); err != nil {
				return fmt.Errorf("record that run %s is in use: %w", id, err)
			}
		}
		return nil
	})
}

// Lost are the links of blobs that any daemon deletes while one commits a run.
type Lost struct {
	of    *Runs
	id    string
	since int64
}

// Watch returns the links that are deleted from now on. It is called between EnterCommit and LeaveCommit.
func (r *Runs) Watch(ctx context.Context, id string) (*Lost, error) {
	l := &Lost{of: r, id: id}
	return l, l.Again(ctx)
}

// Again forgets those that were deleted before now.
func (l *Lost) Again(ctx context.Context) error {
	err := l.of.claims.db.Reader().QueryRowContext(ctx, `SELECT coalesce(max(seq), 0) FROM lost_links`).Scan(&l.since)
	if err != nil {
		return fmt.Errorf("look for deleted links: %w", err)
	}
	return nil
}

// LostLink is a link that was deleted.
type LostLink struct {
	Repository int64
	Digest     digest.Digest
}

// Links returns at most n of those that were deleted, in the transaction that shows a run, and an error when
// this daemon does not commit it any more.
func (l *Lost) Links(ctx context.Context, tx *sql.Tx, n int) ([]LostLink, error) {
	c := l.of.claims
	c.mu.Lock()
	member := c.held[claim{commit, l.id}]
	c.mu.Unlock()
	mine, err := database.Exists(ctx, tx, `SELECT 1 FROM claims WHERE kind = 'commit' AND id = ? AND daemon = ?`, l.id, member)
	if err == nil && !mine {
		err = fmt.Errorf("%w; try again: %w", errLease, blobstore.ErrUnavailable)
	}
	if err != nil {
		return nil, fmt.Errorf("commit run %s: %w", l.id, err)
	}
	columns := func(one *LostLink) []any { return []any{&one.Repository, &one.Digest} }
	return database.List(ctx, tx, columns, `SELECT DISTINCT repository, digest FROM lost_links WHERE seq > ? LIMIT ?`, l.since, n)
}

// sweep deletes the claims of dead daemons, and what no commit needs.
func (r *Runs) sweep(ctx context.Context) error {
	const dead = `SELECT 1 FROM claims c WHERE NOT EXISTS (SELECT 1 FROM daemons d WHERE d.id = c.daemon)`
	found, err := database.Exists(ctx, r.claims.db.Reader(), dead)
	if err != nil || !found {
		return err
	}
	return r.claims.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM claims WHERE NOT EXISTS (SELECT 1 FROM daemons d WHERE d.id = claims.daemon)`)
		return errors.Join(err, forgetLost(ctx, tx))
	})
}
