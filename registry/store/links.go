package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/guard"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

var (
	linkPage  = stepSize{50, 2000} // links looked at with one query
	linkBatch = stepSize{12, 50}   // links removed in one transaction, which pushes wait for
)

// linkRow is the row of a link.
type linkRow struct {
	repository int64
	guard.Link
}

// unusedLink says of a link l that it is older than ?1 and that no manifest of its repository names the blob, not even as
// a child: builders push caches whose layers are children of an index.
var unusedLink = `l.linked < ?1 AND NOT ` + namedIn("l.repository", "l.digest", "1")

// RemoveLinks removes the links to blobs that no manifest of their repository names, and that nothing has put, mounted or
// asked for since before: what an image leaves behind that was deleted, so that its layers cannot be read or mounted any
// more in a repository because another holds them. It reports how many. The bytes are left to RemoveBlobs.
func (s *Garbage) RemoveLinks(ctx context.Context, before time.Time) (removed int, err error) {
	turn := s.yielding()
	for last, more := (linkRow{}), true; more; {
		var unused []linkRow
		unused, last, more, err = s.unusedLinks(ctx, before, last, turn.size(linkPage))
		if err == nil {
			err = turn.yield(ctx)
		}
		if err != nil {
			return removed, fmt.Errorf("list links that nothing needs: %w", err)
		}
		for len(unused) > 0 {
			batch := unused[:min(turn.size(linkBatch), len(unused))]
			unused = unused[len(batch):]
			var n int
			err := s.db.Freeing(func() (err error) {
				n, err = s.removeLinks(ctx, before, batch)
				return err
			})
			removed += n
			if err == nil {
				err = turn.yield(ctx)
			}
			if err != nil {
				return removed, fmt.Errorf("remove links: %w", err)
			}
		}
	}
	return removed, nil
}

// unusedLinks lists the unused of the next links after last, most of them, and tells where these end and whether there are
// more.
func (s *core) unusedLinks(ctx context.Context, before time.Time, last linkRow, most int) (unused []linkRow, end linkRow, more bool, err error) {
	n := 0
	scan := func(rows *sql.Rows) error {
		var is bool
		err := rows.Scan(&end.repository, &end.Repository, &end.Digest, &is)
		if n++; is {
			unused = append(unused, end)
		}
		return err
	}
	err = sqlite.Query(ctx, s.db.Reader(), scan, `SELECT l.repository, r.name, l.digest, `+unusedLink+`
		FROM repository_blobs l JOIN repositories r ON r.id = l.repository
		WHERE (l.repository, l.digest) > (?2, ?3) ORDER BY l.repository, l.digest LIMIT ?4`,
		sqlite.Nanos(before), last.repository, last.Digest, most)
	return unused, end, n == most, err
}

// removeLinks removes those of some links that are unused still.
func (s *core) removeLinks(ctx context.Context, before time.Time, batch []linkRow) (removed int, err error) {
	var marked []guard.Link
	defer func() { s.guard.Blobs.UnmarkLinks(marked) }()
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		for _, l := range batch {
			unused, err := sqlite.Exists(ctx, tx, `SELECT 1 FROM repository_blobs l WHERE l.repository = ?2 AND l.digest = ?3 AND `+unusedLink,
				sqlite.Nanos(before), l.repository, l.Digest)
			if err != nil {
				return err
			}
			if !unused || !s.guard.Blobs.MarkLink(l.Link, before) {
				continue
			}
			marked = append(marked, l.Link)
			if _, err := tx.ExecContext(ctx, `DELETE FROM repository_blobs WHERE repository = ? AND digest = ?`, l.repository, l.Digest); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return len(marked), nil
}

const (
	settledPage = 100_000 // rows from the future that are listed at a time
	settledPart = 500     // rows that are changed in one transaction, which pushes wait for
)

// datedColumn is a column with times. Those that are from the future are listed by readers, since no index tells.
type datedColumn struct {
	table, column, key string
	ofKey              string // the key, from value, a JSON array
}

var datedColumns = []datedColumn{
	{"blobs", "created", "digest", "value ->> 0"},
	{"repository_blobs", "linked", "repository, digest", "value ->> 0, value ->> 1"},
	{"repository_manifests", "used", "repository, digest", "value ->> 0, value ->> 1"},
	{"runs", "last_seen", "id", "value ->> 0"},
}

func (t datedColumn) list() string {
	return `SELECT json_array(` + t.key + `) FROM ` + t.table + ` WHERE ` + t.column + ` > ?1 LIMIT ?2`
}

func (t datedColumn) update() string {
	return `UPDATE ` + t.table + ` SET ` + t.column + ` = ?1 WHERE ` + t.column + ` > ?2 AND (` + t.key + `) IN (SELECT ` + t.ofKey + ` FROM json_each(?3))`
}

// SettleTimes makes what is from the future as old as now: what came while the clock was ahead would otherwise be kept
// until then. So a grace period counts from when that is first seen.
func (s *Garbage) SettleTimes(ctx context.Context) error {
	now := s.now()
	ahead := sqlite.Nanos(now.Add(blobfile.ClockSlack))
	for _, t := range datedColumns {
		for full := true; full; {
			var keys []string
			scan := func(rows *sql.Rows) error {
				var key string
				err := rows.Scan(&key)
				keys = append(keys, key)
				return err
			}
			if err := sqlite.Query(ctx, s.db.Reader(), scan, t.list(), ahead, settledPage); err != nil {
				return fmt.Errorf("look for what is from the future: %w", err)
			}
			full = len(keys) == settledPage
			for some := range slices.Chunk(keys, settledPart) {
				err := s.db.WriteFreeing(ctx, func(tx *sql.Tx) error {
					_, err := tx.ExecContext(ctx, t.update(), sqlite.Nanos(now), ahead, "["+strings.Join(some, ",")+"]")
					return err
				})
				if err != nil {
					return fmt.Errorf("correct times from the future: %w", err)
				}
			}
		}
	}
	return nil
}
