package integrity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// ScrubCursor names the row of meta that has the last blob that a scrub under way has read.
const ScrubCursor = "scrub.cursor"

// Blobs yields the blobs after a digest ("" for all) in the order of their digests. yield may take its time, nothing is
// locked while it runs.
func (c *Checker) Blobs(ctx context.Context, after digest.Digest, yield func(d digest.Digest, size int64) error) error {
	return EachBlob(ctx, c.DB.Reader(), after, yield)
}

// EachBlob is Blobs for a database that is not a store's, such as a backup's.
func EachBlob(ctx context.Context, db *sql.DB, after digest.Digest, yield func(d digest.Digest, size int64) error) error {
	for {
		page, err := blobsAfter(ctx, db, after)
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		for _, b := range page {
			if err := yield(b.digest, b.size); err != nil {
				return err
			}
			after = b.digest
		}
		if len(page) < blobPage {
			return nil
		}
	}
}

type sized struct {
	digest digest.Digest
	size   int64
}

func blobsAfter(ctx context.Context, db *sql.DB, last digest.Digest) (page []sized, err error) {
	scan := func(rows *sql.Rows) error {
		var b sized
		err := rows.Scan(&b.digest, &b.size)
		page = append(page, b)
		return err
	}
	err = sqlite.Query(ctx, db, scan, `SELECT digest, size FROM blobs WHERE digest > ? ORDER BY digest LIMIT ?`, last, blobPage)
	return page, err
}

// ScrubBlob reads a blob to its end and returns in what way it is damaged, "" if it is whole or does not exist any more. A
// damaged one is in quarantine when it returns. pay is called with how many bytes were read, throttle.Buffer at most, and
// waits as long as the next ones are to wait. *StorageError when it looks as if all of the storage were missing.
func (c *Checker) ScrubBlob(ctx context.Context, d digest.Digest, pay func(ctx context.Context, n int) error) (damage string, err error) {
	var size int64
	err = c.DB.Reader().QueryRowContext(ctx, `SELECT size FROM blobs WHERE digest = ?`, d).Scan(&size)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read row of blob %s: %w", d, err)
	}
	found, err := c.Files.Blob(d).Inspect(ctx, size, pay)
	if err != nil || found.Damage == "" {
		return "", err
	}
	if rewritten, err := c.Store.Rewrite(ctx, d); rewritten || err != nil {
		return "", err
	}
	if found.Info == nil {
		if err := c.checkMounted(d.Algorithm()); err != nil {
			return "", err
		}
		if err := c.CheckStorage(ctx, d.Algorithm(), d); err != nil {
			return "", err
		}
	}
	quarantined, err := c.quarantine(ctx, d, size, found)
	if err != nil || !quarantined {
		return "", err
	}
	return found.Damage, nil
}

// Quarantine looks again at a blob that failed to open, and quarantines it if its file is damaged or missing. A file that
// the medium does not give may be whole, but no client is served from it, and a client that pushes it again is. The error is
// what failed, and a *StorageError, when not only this blob is affected.
func (c *Checker) Quarantine(ctx context.Context, d digest.Digest, size int64, failed error) error {
	if rewritten, err := c.Store.Rewrite(ctx, d); rewritten || err != nil {
		return err
	}
	found, err := c.Files.Blob(d).Inspect(ctx, size, nil)
	if err != nil {
		return errors.Join(failed, err)
	}
	unreadable := blobfile.IsDamage(failed)
	if found.Damage == "" && unreadable {
		found.Damage = blobfile.Unreadable(failed)
	}
	if found.Damage == "" {
		return nil // whole by now
	}
	if found.Info == nil || unreadable {
		err = c.checkOthers(ctx, d)
	}
	if err == nil {
		_, err = c.quarantine(ctx, d, size, found)
	}
	if err != nil {
		return errors.Join(failed, err)
	}
	return nil
}

// checkOthers fails unless there are other blobs, and most of those that it tries can be opened. Reads come for many
// blobs at once: while a file system is not mounted, or a disk gives up, they must not empty the store row by row.
func (c *Checker) checkOthers(ctx context.Context, d digest.Digest) error {
	tried, opened, err := c.try(ctx, d.Algorithm(), d)
	if err == nil && (opened == 0 || 2*opened < tried) {
		err = &StorageError{Path: c.Files.Root()}
	}
	return err
}

// CheckStorage returns a *StorageError when most of several blobs cannot be opened: the files are those of another store. One
// blob does not tell.
func (c *Checker) CheckStorage(ctx context.Context, a digest.Algorithm, except digest.Digest) error {
	tried, opened, err := c.try(ctx, a, except)
	if err == nil && tried > 1 && 2*opened < tried {
		err = &StorageError{Path: c.Files.Root()}
	}
	return err
}

// try says how many of some blobs from all over the storage can be opened. Those of another algorithm tell when there
// are none of this one.
func (c *Checker) try(ctx context.Context, a digest.Algorithm, except digest.Digest) (tried, opened int, err error) {
	seen := map[digest.Digest]bool{}
	for _, a := range []digest.Algorithm{a, digest.SHA256, digest.SHA512} {
		if len(seen) > 0 {
			break
		}
		for _, digit := range "0123456789abcdef" {
			var other digest.Digest
			err := c.DB.Reader().QueryRowContext(ctx, `SELECT digest FROM blobs WHERE digest >= ? AND digest <> ? ORDER BY digest LIMIT 1`,
				fmt.Sprintf("%s:%c", a, digit), except).Scan(&other)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return 0, 0, fmt.Errorf("look for other blobs: %w", err)
			}
			if err != nil || seen[other] || image.CheckDigest(other) != nil {
				continue
			}
			seen[other] = true
			if c.Files.Blob(other).Readable() {
				opened++
			}
		}
	}
	return len(seen), opened, nil
}

// checkMounted returns a *StorageError when there is no blob file at all: what looks like the loss of every blob is far more
// often a file system that is not mounted, and must not cost a row.
func (c *Checker) checkMounted(a digest.Algorithm) error {
	dir, mounted, err := c.Files.CheckMounted(a)
	if err != nil {
		return fmt.Errorf("look at the storage: %w", err)
	}
	if !mounted {
		return &StorageError{Path: dir}
	}
	return nil
}

// quarantine takes a damaged blob out of service, unless it was collected or replaced since it was found.
func (c *Checker) quarantine(ctx context.Context, d digest.Digest, size int64, found blobfile.Finding) (done bool, err error) {
	var marked bool
	defer func() {
		if marked {
			c.Guard.Unmark(d)
		}
	}()
	err = c.DB.Freeing(func() error {
		return c.DB.Write(ctx, func(tx *sql.Tx) error {
			exists, err := sqlite.Exists(ctx, tx, `SELECT 1 FROM blobs WHERE digest = ?`, d)
			if err != nil || !exists {
				return err
			}
			if marked = marked || c.Guard.MarkNow(d, 0); !marked || !c.Files.Blob(d).IsStill(found.Info) {
				return nil
			}
			done = true
			return QuarantineRow(ctx, tx, d, size, found.Damage, c.Now())
		})
	})
	if err != nil || !done {
		return false, err
	}
	c.Log.Error("a damaged blob is in quarantine", "digest", d, "damage", found.Damage)
	// From here on no row names the file. If it cannot be moved, collection removes it.
	if err := c.Files.Blob(d).Quarantine(); err != nil {
		c.Log.Warn("could not move a damaged blob to quarantine", "digest", d, "error", err)
	}
	return true, nil
}

// QuarantineRow moves the row of a blob to quarantine, and with it what links it.
func QuarantineRow(ctx context.Context, tx *sql.Tx, d digest.Digest, size int64, cause string, now time.Time) error {
	for _, step := range []struct {
		text string
		args []any
	}{
		{`INSERT INTO quarantine (digest, size, cause, since) VALUES (?, ?, ?, ?)`, []any{d, size, cause, sqlite.Nanos(now)}},
		{`INSERT INTO quarantine_links (digest, repository, linked)
			SELECT digest, repository, linked FROM repository_blobs WHERE digest = ?`, []any{d}},
		// A run that has counted on it is told that it is missing when it puts the manifest.
		{`DELETE FROM run_blobs WHERE digest = ?`, []any{d}},
		{`DELETE FROM blobs WHERE digest = ?`, []any{d}},
	} {
		if _, err := tx.ExecContext(ctx, step.text, step.args...); err != nil {
			return fmt.Errorf("quarantine blob %s: %w", d, err)
		}
	}
	return nil
}

// PutBack reads a blob that was in quarantine to its end and puts it back into service. It fails if it is another.
func (c *Checker) PutBack(ctx context.Context, d digest.Digest, size int64, content io.Reader) error {
	if err := c.Store.PutBack(ctx, d, size, content); err != nil {
		return fmt.Errorf("put back blob %s: %w", d, err)
	}
	return nil
}

// Reinspect reads the file of a blob in quarantine again, as ScrubBlob does, and puts it back where it was if it is whole
// after all: the medium, and not the content, may have been what failed.
func (c *Checker) Reinspect(ctx context.Context, d digest.Digest, size int64, pay func(ctx context.Context, n int) error) (whole bool, err error) {
	if image.CheckDigest(d) != nil {
		return false, nil
	}
	file := c.Files.Quarantined(d)
	seen, err := file.Inspect(ctx, size, pay)
	if err != nil || seen.Damage != "" {
		return false, err
	}
	f, err := file.Open(size)
	if err != nil {
		return false, fmt.Errorf("read blob %s again: %w", d, err)
	}
	defer f.Close()
	if err := c.PutBack(ctx, d, size, f); err != nil {
		return false, err
	}
	c.Log.Info("a blob in quarantine is whole, and in service again", "digest", d)
	return true, nil
}

// Quarantined lists the blobs in quarantine in the order of their digests.
func (c *Checker) Quarantined(ctx context.Context, yield func(d digest.Digest, size int64, cause string, since time.Time) error) error {
	type row struct {
		sized
		cause string
		since int64
	}
	var found []row // as many as are damaged, which is few, or there is a greater worry
	scan := func(rows *sql.Rows) error {
		var r row
		err := rows.Scan(&r.digest, &r.size, &r.cause, &r.since)
		found = append(found, r)
		return err
	}
	if err := sqlite.Query(ctx, c.DB.Reader(), scan, `SELECT digest, size, cause, since FROM quarantine ORDER BY digest`); err != nil {
		return fmt.Errorf("list quarantine: %w", err)
	}
	for _, r := range found {
		if err := yield(r.digest, r.size, r.cause, sqlite.Time(r.since)); err != nil {
			return err
		}
	}
	return nil
}

// TidyQuarantine forgets damaged blobs that nothing is made of any more, and removes the files of those
// that have left.
func (c *Checker) TidyQuarantine(ctx context.Context) error {
	err := c.DB.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM quarantine
			WHERE NOT EXISTS (SELECT 1 FROM manifest_refs f WHERE f.digest = quarantine.digest)`)
		return err
	})
	if err != nil {
		return fmt.Errorf("tidy quarantine: %w", err)
	}
	err = c.Files.TidyQuarantine(func(d digest.Digest) (bool, error) {
		return sqlite.Exists(ctx, c.DB.Reader(), `SELECT 1 FROM quarantine WHERE digest = ?`, d)
	})
	if err != nil {
		return fmt.Errorf("tidy quarantine: %w", err)
	}
	return nil
}

// ScrubCursor is the last blob that a scrub under way has read, "" when none is.
func (c *Checker) ScrubCursor(ctx context.Context) (digest.Digest, error) {
	var d digest.Digest
	err := c.DB.Reader().QueryRowContext(ctx, `SELECT value FROM meta WHERE name = ?`, ScrubCursor).Scan(&d)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read how far scrub has got: %w", err)
	}
	return d, nil
}

// SetScrubCursor records how far a scrub has got, so that it goes on from there also after a restart.
func (c *Checker) SetScrubCursor(ctx context.Context, d digest.Digest) error {
	return c.DB.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES (?, ?)
			ON CONFLICT DO UPDATE SET value = excluded.value`, ScrubCursor, d)
		if err != nil {
			return fmt.Errorf("record how far scrub has got: %w", err)
		}
		return nil
	})
}

// StorageError says that the storage has no blobs, or hardly any, where rows say that it has.
type StorageError struct{ Path string }

func (e *StorageError) Error() string {
	return "the blobs that the database names are not in " + e.Path + ", none of them or few"
}

// Hint returns what to do next.
func (e *StorageError) Hint() string {
	return "check that the file system of the storage is mounted (findmnt -T " + e.Path + ") and that `storage:` in config.yaml is right; if the blobs are lost, restore a backup (`appliance restore`)"
}
