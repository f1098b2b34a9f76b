package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/guard"
)

var (
	linkPage  = stepSize{50, 2000} // links looked at with one query
	linkBatch = stepSize{12, 50}   // links removed in one transaction, which pushes wait for
)

type linkRow struct {
	repository int64
	guard.Link
}

// unusedLink reports whether a link l is older than ?1 and no manifest of its repository refers to
// the blob, not even as a child: builders push caches whose layers are children of an index.
var unusedLink = `l.linked < ?1 AND NOT ` + namedIn("l.repository", "l.digest", "TRUE")

var (
	linksAfter = `SELECT l.repository, r.name, l.digest, ` + unusedLink + `
		FROM repository_blobs l JOIN repositories r ON r.id = l.repository
		WHERE (l.repository, l.digest) > (?2, ?3) ORDER BY l.repository, l.digest LIMIT ?4`
	stillUnused = `SELECT 1 FROM repository_blobs l WHERE l.repository = ?2 AND l.digest = ?3 AND ` + unusedLink
)

// RemoveLinks removes the unused links that were not put, mounted or checked since before, and
// returns their number. They are left by deleted images; without it, a layer could be read and
// mounted in a repository because another has it. RemoveBlobs removes the bytes.
func (s *Garbage) RemoveLinks(ctx context.Context, before time.Time) (removed int, err error) {
	turn := s.yielding()
	for last, more := (linkRow{}), true; more; {
		var unused []linkRow
		unused, last, more, err = s.unusedLinks(ctx, before, last, turn.size(linkPage))
		if err == nil {
			err = turn.yield(ctx)
		}
		if err != nil {
			return removed, fmt.Errorf("list unused links: %w", err)
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

// unusedLinks lists the unused of the next most links after last, and returns the last of these and
// whether there are more.
func (s *core) unusedLinks(ctx context.Context, before time.Time, last linkRow,
	most int) (unused []linkRow, end linkRow, more bool, err error) {
	n := 0
	scan := func(rows *sql.Rows) error {
		var is bool
		err := rows.Scan(&end.repository, &end.Repository, &end.Digest, &is)
		if n++; is {
			unused = append(unused, end)
		}
		return err
	}
	err = database.Query(ctx, s.db.Reader(), scan, linksAfter, database.Nanos(before), last.repository, last.Digest, most)
	return unused, end, n == most, err
}

// removeLinks removes the links of a batch that are still unused.
func (s *core) removeLinks(ctx context.Context, before time.Time, batch []linkRow) (removed int, err error) {
	var marked []guard.Link
	defer func() { s.guard.Blobs.UnmarkLinks(marked) }()
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		s.guard.Blobs.UnmarkLinks(marked) // by a run of this transaction that was rolled back
		marked = nil
		for _, l := range batch {
			unused, err := database.Exists(ctx, tx, stillUnused, database.Nanos(before), l.repository, l.Digest)
			if err != nil {
				return err
			}
			if !unused {
				continue
			}
			if mine, err := s.guard.Blobs.MarkLink(ctx, tx, l.Link, before); err != nil {
				return err
			} else if !mine {
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
	clampPage  = 100_000 // rows in the future that one query lists
	clampBatch = 500     // rows that one transaction changes, which pushes wait for
)

// datedColumn is a column with times. Readers look for times in the future, without an index.
type datedColumn struct {
	table, column, key string
	ofKey              string // the key, from value, a JSON array
}

var datedColumns = []datedColumn{
	{"blobs", "created", "digest", "value ->> 0"},
	{"repository_blobs", "linked", "repository, digest", "CAST(value ->> 0 AS BIGINT), value ->> 1"},
	{"repository_manifests", "used", "repository, digest", "CAST(value ->> 0 AS BIGINT), value ->> 1"},
	{"runs", "last_seen", "id", "value ->> 0"},
}

func (t datedColumn) list() string {
	return `SELECT json_array(` + t.key + `) FROM ` + t.table + ` WHERE ` + t.column + ` > ?1 LIMIT ?2`
}

func (t datedColumn) update() string {
	return `UPDATE ` + t.table + ` SET ` + t.column + ` = ?1 WHERE ` + t.column + ` > ?2 AND (` + t.key + `) IN (SELECT ` + t.ofKey + ` FROM json_each(?3))`
}

// ClampTimes sets times in the future to now: content that came while the clock was ahead would
// otherwise be kept until then. Its grace period begins when it is first seen.
func (s *Garbage) ClampTimes(ctx context.Context) error {
	now := s.now()
	ahead := database.Nanos(now.Add(blobstore.ClockSlack))
	for _, t := range datedColumns {
		for full := true; full; {
			keys, err := database.Column[string](ctx, s.db.Reader(), t.list(), ahead, clampPage)
			if err != nil {
				return fmt.Errorf("look for times in the future: %w", err)
			}
			full = len(keys) == clampPage
			for some := range slices.Chunk(keys, clampBatch) {
				err := s.db.WriteFreeing(ctx, func(tx *sql.Tx) error {
					_, err := tx.ExecContext(ctx, t.update(), database.Nanos(now), ahead, "["+strings.Join(some, ",")+"]")
					return err
				})
				if err != nil {
					return fmt.Errorf("correct times in the future: %w", err)
				}
			}
		}
	}
	return nil
}

// referencePage is how many references one query checks.
var referencePage = stepSize{50, 2000}

// checkedReferences looks for each row of the table in the index that garbage and unusedLink use.
const checkedReferences = `SELECT f.manifest, f.position, f.digest, EXISTS (
		SELECT 1 FROM manifest_refs i INDEXED BY manifest_refs_by_digest WHERE i.digest = f.digest AND i.manifest = f.manifest)
	FROM manifest_refs f NOT INDEXED WHERE (f.manifest, f.position) > (?1, ?2) ORDER BY f.manifest, f.position LIMIT ?3`

// CheckReferences returns a *CorruptError when the index of references lacks one. SQLite does not
// notice: a bit that flips in an index makes another digest, and a collection would remove layers
// in use. It reads all references, in small steps while there are reads.
func (s *Garbage) CheckReferences(ctx context.Context) error {
	turn := s.yielding()
	manifest, position := digest.Digest(""), -1
	for more := true; more; {
		n, most := 0, turn.size(referencePage)
		scan := func(rows *sql.Rows) error {
			var d digest.Digest
			var indexed bool
			n++
			if err := rows.Scan(&manifest, &position, &d, &indexed); err != nil || indexed {
				return err
			}
			return s.db.Damaged(fmt.Errorf("the index of references lacks that of manifest %s to %s", manifest, d))
		}
		if err := database.Query(ctx, s.db.Reader(), scan, checkedReferences, manifest, position, most); err != nil {
			return fmt.Errorf("check references: %w", err)
		}
		if err := turn.yield(ctx); err != nil {
			return err
		}
		more = n == most
	}
	return nil
}

// hashes returns a *CorruptError unless the body of a manifest hashes to its digest.
func (s *core) hashes(m Manifest) error {
	if err := image.CheckDigest(m.Digest); err != nil {
		return s.db.Damaged(fmt.Errorf("the digest of a manifest: %w", err))
	}
	if got := m.Digest.Algorithm().FromBytes(m.Body); got != m.Digest {
		return s.db.Damaged(errors.New("the body of manifest " + m.Digest.String() + " hashes to " + got.String()))
	}
	return nil
}
