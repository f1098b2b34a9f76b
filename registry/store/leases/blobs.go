package leases

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/guard"
)

const (
	// recheck is how often at most a daemon writes that clients were told of one blob. Collections spare
	// a blob for that much longer.
	recheck = time.Minute
	// many is the count of the manifests that are expected with a blob when it is not counted any more.
	many = 1 << 30
	// fewEntries is the size at which a map is first searched for old entries.
	fewEntries = 1024
)

// Blobs keeps collection and requests apart, at whichever daemons they are.
type Blobs struct {
	Recheck time.Duration

	db     Database
	now    func() time.Time
	remove func(context.Context, digest.Digest) error
	log    *slog.Logger

	finishing sync.Mutex // one at a time

	mu       sync.Mutex // guards what follows, for moments
	told     map[told]telling
	checks   map[digest.Digest]time.Time // that are not written yet
	removing map[digest.Digest]*removal
}

// told is what clients were told of: a blob, and the repository in which a manifest is expected, or "".
type told struct {
	digest digest.Digest
	repo   string
}

// telling is when that was written, and how often since.
type telling struct {
	at    time.Time
	times int
}

// Check records that a client is told that a blob exists, and, unless expect is "", that a manifest is
// expected in that repository. read reads the row of the blob, in a transaction unless that is nil, and
// its error is returned.
//
// A check for a manifest is a write, and reads the row in it, but for those that follow within a minute:
// the second of these has the manifests not counted any more, and the others are covered by it. One
// without is written later: nothing is promised to a client that reads a blob.
func (b *Blobs) Check(ctx context.Context, l guard.Link, expect string, read func(context.Context, *sql.Tx) error) error {
	if expect == "" {
		err := read(ctx, nil)
		if err == nil {
			b.note(l.Digest)
		}
		return err
	}
	of := told{l.Digest, expect}
	times := b.times(of)
	if times > 1 {
		return read(ctx, nil)
	}
	if times == 0 { // most are of a push, whose blob is not here: that takes no turn among the writes
		if err := read(ctx, nil); err != nil {
			return err
		}
	}
	now := b.now()
	err := b.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := read(ctx, tx); err != nil {
			return err
		}
		if err := writeCheck(ctx, tx, l.Digest, now); err != nil {
			return err
		}
		count := 1
		if times > 0 {
			count = many
		}
		return b.expect(ctx, tx, expect, l.Digest, now, count)
	})
	if err == nil {
		b.tell(of, now)
	}
	return err
}

// times returns how often a check was written lately.
func (b *Blobs) times(of told) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	one := b.told[of]
	if b.now().Sub(one.at) >= b.Recheck {
		return 0
	}
	return one.times
}

func (b *Blobs) tell(of told, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	one := b.told[of]
	if now.Sub(one.at) >= b.Recheck {
		one = telling{at: now}
	}
	one.times++
	b.told[of] = one
	if len(b.told) >= fewEntries {
		maps.DeleteFunc(b.told, func(_ told, t telling) bool { return now.Sub(t.at) >= b.Recheck })
		if len(b.told) >= 64*fewEntries {
			clear(b.told) // they are written again
		}
	}
}

// note records a check, which Flush writes.
func (b *Blobs) note(d digest.Digest) {
	if b.times(told{digest: d}) > 0 {
		return
	}
	now := b.now()
	b.mu.Lock()
	b.checks[d] = now
	b.mu.Unlock()
	b.tell(told{digest: d}, now)
}

// Flush writes the checks that are noted.
func (b *Blobs) Flush(ctx context.Context) error {
	b.mu.Lock()
	checks := b.checks
	b.checks = map[digest.Digest]time.Time{}
	b.mu.Unlock()
	if len(checks) == 0 {
		return nil
	}
	err := b.db.Write(ctx, func(tx *sql.Tx) error {
		for d, at := range checks {
			if err := writeCheck(ctx, tx, d, at); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("save the recent checks of blobs: %w", err)
	}
	return nil
}

func writeCheck(ctx context.Context, tx *sql.Tx, d digest.Digest, at time.Time) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO checked (digest, at) VALUES (?, ?)
		ON CONFLICT (digest) DO UPDATE SET at = max(checked.at, excluded.at)`, d, database.Nanos(at))
	return err
}

// Expect records that a client puts a blob into a repository, so that a manifest is expected there.
func (b *Blobs) Expect(ctx context.Context, tx *sql.Tx, repo string, d digest.Digest) error {
	return b.expect(ctx, tx, repo, d, b.now(), 1)
}

func (b *Blobs) expect(ctx context.Context, tx *sql.Tx, repo string, d digest.Digest, now time.Time, count int) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO expected (digest, repository, last, count) VALUES (?1, ?2, ?3, ?4)
		ON CONFLICT (digest, repository) DO UPDATE SET last = excluded.last,
		count = CASE WHEN expected.last <= CAST(?5 AS BIGINT) THEN 0 ELSE expected.count END + excluded.count`,
		d, repo, database.Nanos(now), count, database.Nanos(now.Add(-guard.PushTakes)))
	return err
}

// Unexpect records that blobs which were put or checked in a repository until a time have their
// manifest, or that the client gave it up.
func (b *Blobs) Unexpect(ctx context.Context, tx *sql.Tx, repo string, until time.Time, ds ...digest.Digest) error {
	all := asJSON(ds)
	const of = ` WHERE repository = ?1 AND last <= ?2 AND digest IN (SELECT value FROM json_each(?3))`
	if _, err := tx.ExecContext(ctx, `DELETE FROM expected`+of+` AND count <= 1`, repo, database.Nanos(until), all); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `UPDATE expected SET count = count - 1`+of, repo, database.Nanos(until), all)
	return err
}

// sparedOf selects those of the digests ?1 that were checked since ?2, or whose manifest was expected
// since ?3.
const sparedOf = `SELECT digest FROM checked WHERE digest IN (SELECT value FROM json_each(?1)) AND at >= ?2
	UNION SELECT digest FROM expected WHERE digest IN (SELECT value FROM json_each(?1)) AND last > ?3`

// Spared returns those of some blobs that were checked since before, or are part of a push under way.
func (b *Blobs) Spared(ctx context.Context, q database.Querier, before time.Time, ds ...digest.Digest) (map[digest.Digest]bool, error) {
	if len(ds) == 0 {
		return nil, nil
	}
	if q == nil {
		q = b.db.Reader()
	}
	found, err := database.Column[digest.Digest](ctx, q, sparedOf, asJSON(ds), database.Nanos(before.Add(-b.Recheck)),
		database.Nanos(b.now().Add(-guard.PushTakes-b.Recheck)))
	if err != nil {
		return nil, fmt.Errorf("look for recent checks: %w", err)
	}
	spared := make(map[digest.Digest]bool, len(found))
	for _, d := range found {
		spared[d] = true
	}
	return spared, nil
}

// Left returns what Spared goes by of all blobs: for a process that has the database alone after daemons
// that shared it.
func Left(ctx context.Context, q database.Querier, before, now time.Time) (checked map[digest.Digest]time.Time, expected map[guard.Link]time.Time, err error) {
	checked, expected = map[digest.Digest]time.Time{}, map[guard.Link]time.Time{}
	var l guard.Link
	var at int64
	err = database.Query(ctx, q, func(rows *sql.Rows) error {
		err := rows.Scan(&l.Digest, &at)
		checked[l.Digest] = database.Time(at).Add(recheck)
		return err
	}, `SELECT digest, at FROM checked WHERE at >= ?`, database.Nanos(before.Add(-recheck)))
	if err == nil {
		err = database.Query(ctx, q, func(rows *sql.Rows) error {
			err := rows.Scan(&l.Digest, &l.Repository, &at)
			expected[l] = database.Time(at).Add(recheck)
			return err
		}, `SELECT digest, repository, last FROM expected WHERE last > ?`, database.Nanos(now.Add(-guard.PushTakes-recheck)))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read what the daemons of this store told clients: %w", err)
	}
	return checked, expected, nil
}

// MarkLink reports whether a link may be removed in this transaction, whose order decides: its blob is
// not spared.
func (b *Blobs) MarkLink(ctx context.Context, tx *sql.Tx, l guard.Link, before time.Time) (bool, error) {
	spared, err := b.Spared(ctx, tx, before, l.Digest)
	return err == nil && !spared[l.Digest], err
}

// Epoch returns a number that changes with each removal of an object.
func (b *Blobs) Epoch(ctx context.Context) (uint64, error) {
	var last, open int64
	err := b.db.Reader().QueryRowContext(ctx, `SELECT last_value, (SELECT count(*) FROM condemned WHERE done = 0) FROM condemned_seq`).Scan(&last, &open)
	if err != nil {
		return 0, fmt.Errorf("look for removals: %w", err)
	}
	return uint64(last)<<20 + uint64(open), nil
}

// Forget deletes the rows that are of no use any more.
func (b *Blobs) Forget(ctx context.Context) error {
	now := b.now()
	return b.db.Write(ctx, func(tx *sql.Tx) error {
		var errs []error
		for text, before := range map[string]time.Time{
			`DELETE FROM checked WHERE at < ?`:    now.Add(-guard.ChecksKept),
			`DELETE FROM expected WHERE last < ?`: now.Add(-guard.PushTakes - b.Recheck),
		} {
			_, err := tx.ExecContext(ctx, text, database.Nanos(before))
			errs = append(errs, err)
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM condemned WHERE done > 0 AND done < appliance_now() - CAST(? AS BIGINT)`, int64(tombstone))
		return errors.Join(append(errs, err)...)
	})
}
