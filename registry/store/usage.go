package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// usagePage is how many blobs one query counts: it holds a connection, and a snapshot that keeps the
// write-ahead log from being cut.
var usagePage = stepSize{500, 10_000}

// BlobSum counts blobs.
type BlobSum struct{ Blobs, Bytes int64 }

func (s *BlobSum) add(blobs, bytes int64) {
	s.Blobs += blobs
	s.Bytes += bytes
}

// Usage is what blobs take.
type Usage struct {
	All      BlobSum
	Own      BlobSum // of these, what one repository alone has
	Shared   BlobSum // what several have
	Unlinked BlobSum // what none has: it is of runs under way, or a collection removes it

	Repositories []RepositoryUsage // in no order, without those that have no blob
}

// RepositoryUsage is what the blobs of a repository take.
type RepositoryUsage struct {
	Name   string
	Own    BlobSum // what no other repository has
	Shared BlobSum // what others have as well; it counts for each of them
}

// usageOf sums the blobs after ?1, up to ?2, by repository: those of its own, those that it shares, and of these
// those for which it is the first, so that they can be counted once.
const usageOf = `SELECT repository, count(*) FILTER (WHERE n = 1), coalesce(sum(size) FILTER (WHERE n = 1), 0),
		count(*) FILTER (WHERE n > 1), coalesce(sum(size) FILTER (WHERE n > 1), 0),
		count(*) FILTER (WHERE n > 1 AND repository = first), coalesce(sum(size) FILTER (WHERE n > 1 AND repository = first), 0)
	FROM (SELECT l.repository, b.size, count(*) OVER one AS n, min(l.repository) OVER one AS first
		FROM blobs b CROSS JOIN repository_blobs l INDEXED BY repository_blobs_by_digest
		WHERE b.digest > ?1 AND b.digest <= ?2 AND l.digest = b.digest
		WINDOW one AS (PARTITION BY b.digest)) counted
	GROUP BY repository`

// Usage counts what all blobs take, while pushes and pulls go on: in less than a minute for a million
// manifests with two million blobs, in parts of which each takes a fraction of a second. progress is
// called with the number of blobs counted so far.
func (s *Store) Usage(ctx context.Context, progress func(blobs int64)) (u Usage, err error) {
	by := map[int64]*RepositoryUsage{}
	turn := s.yielding()
	for last := digest.Digest(""); last != afterAllDigests; {
		if last, err = s.usageAfter(ctx, last, turn.size(usagePage), &u, by); err != nil {
			return u, fmt.Errorf("count what blobs take: %w", err)
		}
		progress(u.All.Blobs)
		if err := turn.yield(ctx); err != nil {
			return u, err
		}
	}
	u.Unlinked = BlobSum{u.All.Blobs - u.Own.Blobs - u.Shared.Blobs, u.All.Bytes - u.Own.Bytes - u.Shared.Bytes}
	if err := s.nameUsage(ctx, by); err != nil {
		return u, fmt.Errorf("count what blobs take: %w", err)
	}
	for _, r := range by {
		if r.Name != "" { // it was not deleted meanwhile
			u.Repositories = append(u.Repositories, *r)
		}
	}
	return u, nil
}

// usageAfter adds the next n blobs, and returns the last of them.
func (s *Store) usageAfter(ctx context.Context, after digest.Digest, n int, u *Usage, by map[int64]*RepositoryUsage) (end digest.Digest, err error) {
	tx, err := s.db.Reader().BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // one state, so that the sums add up
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }()
	err = tx.QueryRowContext(ctx, `SELECT digest FROM blobs WHERE digest > ? ORDER BY digest LIMIT 1 OFFSET ?`, after, n-1).Scan(&end)
	if errors.Is(err, sql.ErrNoRows) {
		end, err = afterAllDigests, nil
	}
	if err != nil {
		return "", err
	}
	var all BlobSum
	if err := tx.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(size), 0) FROM blobs WHERE digest > ? AND digest <= ?`, after, end).
		Scan(&all.Blobs, &all.Bytes); err != nil {
		return "", err
	}
	u.All.add(all.Blobs, all.Bytes)
	return end, database.Query(ctx, tx, func(rows *sql.Rows) error {
		var id int64
		var own, shared, once BlobSum
		if err := rows.Scan(&id, &own.Blobs, &own.Bytes, &shared.Blobs, &shared.Bytes, &once.Blobs, &once.Bytes); err != nil {
			return err
		}
		r := by[id]
		if r == nil {
			r = &RepositoryUsage{}
			by[id] = r
		}
		r.Own.add(own.Blobs, own.Bytes)
		r.Shared.add(shared.Blobs, shared.Bytes)
		u.Own.add(own.Blobs, own.Bytes)
		u.Shared.add(once.Blobs, once.Bytes)
		return nil
	}, usageOf, after, end)
}

// nameUsage sets the names of repositories.
func (s *Store) nameUsage(ctx context.Context, by map[int64]*RepositoryUsage) error {
	return database.Query(ctx, s.db.Reader(), func(rows *sql.Rows) error {
		var id int64
		var name string
		err := rows.Scan(&id, &name)
		if r := by[id]; r != nil {
			r.Name = name
		}
		return err
	}, `SELECT id, name FROM repositories`)
}

// Reclaimable sums what a collection would remove that takes what has been unused since before: blobs, files without
// a row, and uploads.
func (s *Garbage) Reclaimable(ctx context.Context, before, uploadsBefore time.Time) (sum BlobSum, err error) {
	err = s.GarbageBlobs(ctx, before, func(_ digest.Digest, size int64) error {
		sum.add(1, size)
		return nil
	})
	if err != nil {
		return sum, err
	}
	return sum, s.StaleUploads(ctx, uploadsBefore, func(_ string, size int64) error {
		sum.Bytes += size
		return nil
	})
}
