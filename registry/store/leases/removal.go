package leases

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

const (
	// tombstone is how long the row of a removal stays: longer than any put takes between its two looks.
	tombstone = 24 * time.Hour
	// patience is how long a put waits for a removal.
	patience = 20 * time.Second
	// undoneFor is how long a removal whose answer was lost stays undone.
	undoneFor = time.Minute
)

// removal is one that this process has begun.
type removal struct {
	daemon string
	ended  bool // the object is certainly gone, or stays: no request of it is under way
}

// Mark condemns a blob unless it is spared, in the transaction that deletes its row. The caller calls
// Unmark.
func (b *Blobs) Mark(ctx context.Context, tx *sql.Tx, d digest.Digest, before time.Time) (bool, error) {
	spared, err := b.Spared(ctx, tx, before, d)
	if err != nil || spared[d] {
		return false, err
	}
	for _, text := range []string{`DELETE FROM checked WHERE digest = ?`, `DELETE FROM expected WHERE digest = ?`} {
		if _, err := tx.ExecContext(ctx, text, d); err != nil { // what is left of these is old
			return false, err
		}
	}
	return b.MarkNow(ctx, tx, d)
}

// MarkNow condemns a blob although clients were told that it exists. It refuses while another removal of
// it is not done.
func (b *Blobs) MarkNow(ctx context.Context, tx *sql.Tx, d digest.Digest) (bool, error) {
	member := b.db.Member()
	marked, err := affected(ctx, tx, `INSERT INTO condemned (digest, seq, daemon, at, done) VALUES (?, nextval('condemned_seq'), ?, appliance_now(), 0)
		ON CONFLICT (digest) DO UPDATE SET seq = excluded.seq, daemon = excluded.daemon, at = excluded.at, done = 0 WHERE condemned.done > 0`, d, member)
	if err != nil {
		return false, fmt.Errorf("condemn blob %s: %w", d, err)
	}
	if marked {
		b.mu.Lock()
		b.removing[d] = &removal{daemon: member}
		b.mu.Unlock()
	}
	return marked, nil
}

// Remove calls remove for the object of a blob that the caller has marked, with a context that ends
// before the lease of this daemon.
func (b *Blobs) Remove(ctx context.Context, d digest.Digest, remove func(context.Context) error) error {
	b.mu.Lock()
	r := b.removing[d]
	b.mu.Unlock()
	if r == nil || !b.db.Holds(r.daemon) {
		return fmt.Errorf("remove blob %s: %w: another daemon removes it", d, errLease)
	}
	ctx, over := b.bound(blobstore.Once(context.WithoutCancel(ctx)), r.daemon)
	defer over()
	err := remove(ctx)
	// A refusal is an end as well. Without an answer the request may come to its end later.
	ended := err == nil || errors.Is(err, fs.ErrNotExist) || !errors.Is(err, blobstore.ErrUnavailable) && context.Cause(ctx) == nil
	b.mu.Lock()
	defer b.mu.Unlock()
	r.ended = ended
	return err
}

// Unmark ends removals. Those whose transaction was rolled back have left nothing; those that did not
// come to an end are finished later.
func (b *Blobs) Unmark(ctx context.Context, ds ...digest.Digest) {
	var ended []digest.Digest
	b.mu.Lock()
	for _, d := range ds {
		if r := b.removing[d]; r != nil && r.ended {
			ended = append(ended, d)
		}
		delete(b.removing, d)
	}
	b.mu.Unlock()
	if len(ended) == 0 {
		return
	}
	member, ctx := b.db.Member(), context.WithoutCancel(ctx)
	err := b.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE condemned SET done = appliance_now() WHERE done = 0 AND daemon = ?1
			AND digest IN (SELECT value FROM json_each(?2))`, member, asJSON(ended))
		return err
	})
	if err != nil {
		b.log.Warn("could not record that blobs are removed; it is done later", "blobs", len(ended), "error", err)
	}
}

// Put is a put of a blob, from before its object is placed until its row is committed.
type Put struct {
	of     *Blobs
	digest digest.Digest
	seq    int64 // of the last removal
}

// ErrRemoved is the error of a put during which a removal of the blob began: it is to be placed again.
var ErrRemoved = errors.New("the blob was removed at the same time")

// RemovingError refuses the put of a blob whose removal takes too long, since the daemon that removes it hangs or
// was lost. It is a blobstore.ErrUnavailable: a client may ask again.
type RemovingError struct{ Digest digest.Digest }

func (e *RemovingError) Error() string {
	return fmt.Sprintf("a collection is removing blob %s, and the daemon that does it does not answer; try again in a minute", e.Digest)
}

// Is makes it a blobstore.ErrUnavailable.
func (e *RemovingError) Is(target error) bool { return target == blobstore.ErrUnavailable }

// Begin waits until no removal of a blob is under way, and begins a put: *RemovingError when that takes too
// long.
func (b *Blobs) Begin(ctx context.Context, d digest.Digest) (*Put, error) {
	for began := time.Now(); ; {
		seq, open, err := last(ctx, b.db.Reader(), d)
		if err != nil {
			return nil, err
		}
		if !open {
			return &Put{b, d, seq}, nil
		}
		if time.Since(began) > patience {
			return nil, &RemovingError{d}
		}
		if err := retry.Sleep(ctx, 20*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// Verify returns ErrRemoved when a removal began since Begin. The transaction that writes the row of the
// blob calls it.
func (p *Put) Verify(ctx context.Context, tx *sql.Tx) error {
	seq, open, err := last(ctx, tx, p.digest)
	if err == nil && (open || seq != p.seq) {
		err = ErrRemoved
	}
	return err
}

// End ends the put. Nothing was registered.
func (p *Put) End() {}

// last returns the number of the last removal of a blob, and whether it is under way.
func last(ctx context.Context, q database.Querier, d digest.Digest) (seq int64, open bool, err error) {
	var done int64
	err = q.QueryRowContext(ctx, `SELECT seq, done FROM condemned WHERE digest = ?`, d).Scan(&seq, &done)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("look for a removal of blob %s: %w", d, err)
	}
	return seq, done == 0, nil
}

// orphaned selects the removals that no daemon is at any more: those of dead daemons, and those of this
// one, ?1, that have been undone for ?2.
const orphaned = `SELECT digest, daemon FROM condemned c WHERE done = 0 AND (NOT EXISTS (SELECT 1 FROM daemons d WHERE d.id = c.daemon)
	OR daemon = ?1 AND at < appliance_now() - CAST(?2 AS BIGINT)) ORDER BY at LIMIT 100`

// finish finishes the removals that no daemon is at any more.
func (b *Blobs) finish(ctx context.Context) error {
	type open struct {
		digest digest.Digest
		daemon string
	}
	b.finishing.Lock() // or two would finish one that was this daemon's before
	defer b.finishing.Unlock()
	columns := func(o *open) []any { return []any{&o.digest, &o.daemon} }
	found, err := database.List(ctx, b.db.Reader(), columns, orphaned, b.db.Member(), int64(undoneFor))
	if err != nil {
		return fmt.Errorf("look for removals that a daemon has left: %w", err)
	}
	var errs []error
	for _, o := range found {
		b.mu.Lock()
		mine := b.removing[o.digest] != nil
		b.mu.Unlock()
		if mine {
			continue
		}
		errs = append(errs, b.finishOne(ctx, o.digest, o.daemon))
	}
	return errors.Join(errs...)
}

func (b *Blobs) finishOne(ctx context.Context, d digest.Digest, daemon string) error {
	member := b.db.Member()
	taken, exists := false, false
	err := b.db.Write(ctx, func(tx *sql.Tx) (err error) {
		taken, err = affected(ctx, tx, `UPDATE condemned SET daemon = ?1, at = appliance_now() WHERE digest = ?2 AND daemon = ?3 AND done = 0`, member, d, daemon)
		if err == nil && taken { // by a process that had the database alone
			exists, err = database.Exists(ctx, tx, `SELECT 1 FROM blobs WHERE digest = ?`, d)
		}
		return err
	})
	if err != nil || !taken {
		return err
	}
	b.mu.Lock()
	b.removing[d] = &removal{daemon: member, ended: exists}
	b.mu.Unlock()
	defer b.Unmark(ctx, d)
	if exists {
		return nil
	}
	err = b.Remove(ctx, d, func(ctx context.Context) error { return b.remove(ctx, d) })
	if errors.Is(err, fs.ErrNotExist) { // the daemon that left it was killed behind that
		return nil
	}
	return err
}

// busy reports whether this daemon has removals that are not done, for which others have to wait.
func (b *Blobs) busy(ctx context.Context) (bool, error) {
	return database.Exists(ctx, b.db.Reader(), `SELECT 1 FROM condemned WHERE done = 0 AND daemon = ?`, b.db.Member())
}
