package transfer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

const (
	// atOnce is how many blobs are copied at once. In S3 each has two parts of 8 MiB in memory.
	atOnce = 8
	// page is how many rows of blobs are compared at a time.
	page = 1000
)

// blob is a row of the source.
type blob struct {
	digest digest.Digest
	size   int64
}

// tally counts what a pass has done.
type tally struct {
	mu      sync.Mutex // guards what follows
	done    Progress
	damaged DamagedError
}

// blobs brings the blobs that have no row in the target, and gives them one.
func (c *copying) blobs(ctx context.Context) error {
	if err := c.from.size(ctx, &c.report); err != nil || c.report.SameStorage {
		return err
	}
	if err := c.checkSpace(ctx); err != nil {
		return err
	}
	c.tally = tally{done: Progress{OfBlobs: c.report.Blobs, OfBlobBytes: c.report.BlobBytes}, damaged: DamagedError{Config: c.From.Config}}
	there := &c.report.There
	if c.passes++; c.passes > 1 { // they came in the pass before
		there = new(int64)
	}
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	group.Go(func() error {
		return c.compareBlobs(within, func(b blob, row bool) {
			if row && !c.looks() {
				c.count(b, there, nil)
				return
			}
			group.Go(func() error {
				if row {
					held, err := c.held(within, b)
					if err != nil {
						return err
					}
					if held {
						c.count(b, there, nil)
						return nil
					}
				}
				return c.bring(within, b)
			})
		})
	})
	err := group.Wait()
	if err == nil && c.tally.damaged.Total > 0 {
		err = &c.tally.damaged
	}
	return err
}

// checkSpace returns an error unless the blobs that are missing fit.
func (c *copying) checkSpace(ctx context.Context) error {
	var have int64
	if err := c.to.db.Reader().QueryRowContext(ctx, `SELECT coalesce(sum(size), 0) FROM blobs`).Scan(&have); err != nil {
		return fmt.Errorf("count the blobs of the target: %w", err)
	}
	return c.to.checkSpace(max(0, c.report.BlobBytes-have))
}

// looks reports whether the blobs of the rows in the target are looked for in its storage: once in a Run for what an
// earlier Run brought, since then the storage may have been changed, or was not mounted.
func (c *copying) looks() bool { return c.to.begun && c.passes == 1 }

// held reports whether the target has a blob of which it has a row.
func (c *copying) held(ctx context.Context, b blob) (bool, error) {
	if err := image.CheckDigest(b.digest); err != nil {
		return false, fmt.Errorf("a blob of the source: %w", err)
	}
	err := c.to.blobs.Blob(b.digest).Check(ctx, b.size)
	if blobstore.IsLoss(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for blob %s in the target: %w", b.digest, err)
	}
	return true, nil
}

// compareBlobs calls each with the blobs of the source, and whether the target has a row of them.
func (c *copying) compareBlobs(ctx context.Context, each func(b blob, row bool)) error {
	for last := ""; ; {
		columns := func(b *blob) []any { return []any{&b.digest, &b.size} }
		all, err := database.List(ctx, c.from.db, columns, `SELECT digest, size FROM blobs WHERE digest > ? ORDER BY digest LIMIT ?`, last, page)
		if err != nil {
			return fmt.Errorf("list the blobs of the source: %w", err)
		}
		if len(all) == 0 {
			return nil
		}
		until := string(all[len(all)-1].digest)
		present, err := database.List(ctx, c.to.db.Reader(), columns, `SELECT digest, size FROM blobs WHERE digest > ? AND digest <= ?`, last, until)
		if err != nil {
			return fmt.Errorf("list the blobs of the target: %w", err)
		}
		have := map[blob]bool{}
		for _, b := range present {
			have[b] = true
		}
		for _, b := range all {
			each(b, have[b])
		}
		last = until
	}
}

// count counts a blob that the target has.
func (c *copying) count(b blob, blobs, bytes *int64) {
	c.tally.mu.Lock()
	defer c.tally.mu.Unlock()
	*blobs++
	if bytes != nil {
		*bytes += b.size
	}
	c.tally.done.Blobs++
	c.tally.done.BlobBytes += b.size
	c.Progress(c.tally.done)
}

// bring copies a blob and writes its row.
func (c *copying) bring(ctx context.Context, b blob) error {
	if err := image.CheckDigest(b.digest); err != nil {
		return fmt.Errorf("a blob of the source: %w", err)
	}
	damage, err := c.fetch(ctx, b)
	if err != nil {
		return fmt.Errorf("copy blob %s: %w", b.digest, diskspace.Full(c.to.blobs.Root(), b.size, err))
	}
	if damage != "" {
		return c.found(ctx, b, damage)
	}
	err = c.to.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO blobs (digest, size, created) VALUES (?, ?, ?) ON CONFLICT (digest) DO UPDATE SET size = excluded.size`,
			b.digest, b.size, database.Nanos(c.Now()))
		return err
	})
	if err != nil {
		return fmt.Errorf("note blob %s: %w", b.digest, err)
	}
	c.count(b, &c.report.Copied, &c.report.CopiedBytes)
	return nil
}

// found notes a damaged blob, unless the source has removed it meanwhile.
func (c *copying) found(ctx context.Context, b blob, damage string) error {
	exists, err := database.Exists(ctx, c.from.db, `SELECT 1 FROM blobs WHERE digest = ?`, b.digest)
	if err != nil || !exists {
		return err
	}
	c.tally.mu.Lock()
	defer c.tally.mu.Unlock()
	c.tally.damaged.Total++
	if len(c.tally.damaged.Blobs) < damagedListed {
		c.tally.damaged.Blobs = append(c.tally.damaged.Blobs, Damaged{b.digest, damage})
	}
	return nil
}

// fetch brings a blob to the target, or returns how it is damaged in the source. The bytes of a small
// one may be in the journal only.
func (c *copying) fetch(ctx context.Context, b blob) (damage string, err error) {
	content, err := c.from.blobs.Blob(b.digest).Open(ctx, b.size)
	damage, err = damageOf(err)
	if err == nil && damage == "" {
		damage, err = c.receive(ctx, b, content)
		err = errors.Join(err, content.Close())
	}
	if err != nil || damage == "" {
		return "", err
	}
	body, err := c.journaled(ctx, b.digest)
	if err != nil || body == nil {
		return damage, err
	}
	return c.receive(ctx, b, body)
}

// journaled returns what the journal of the source has of a blob, or nil.
func (c *copying) journaled(ctx context.Context, d digest.Digest) (io.ReadSeeker, error) {
	var body []byte
	err := c.from.db.QueryRowContext(ctx, `SELECT body FROM blob_journal WHERE digest = ? ORDER BY id DESC LIMIT 1`, d).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the journal of small blobs: %w", err)
	}
	return newBody(body), nil
}

// missing reports whether an error is that of nothing there.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
