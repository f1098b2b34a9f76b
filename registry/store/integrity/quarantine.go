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
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// ScrubCursor is the name of the note with the last blob that an unfinished scrub has read.
const ScrubCursor = "scrub.cursor"

// Restored is the name of the note with the time at which a backup was restored.
const Restored = "restored"

// Blobs yields the blobs after a digest ("" for all), sorted. No lock or transaction is open while
// yield runs.
func (c *Checker) Blobs(ctx context.Context, after digest.Digest, yield func(d digest.Digest, size int64) error) error {
	return EachBlob(ctx, c.DB.Reader(), after, yield)
}

// EachBlob is Blobs for another database, such as that of a backup.
func EachBlob(ctx context.Context, db *sql.DB, after digest.Digest,
	yield func(d digest.Digest, size int64) error) error {
	for {
		page, err := database.List(ctx, db, func(b *sized) []any { return []any{&b.digest, &b.size} },
			`SELECT digest, size FROM blobs WHERE digest > ? ORDER BY digest LIMIT ?`, after, blobPage)
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

// ScrubBlob reads a blob to its end and returns its damage, "" if it is whole or no longer exists.
// A damaged one is in quarantine when it returns. pay is called with the number of bytes read,
// throttle.Buffer at most, and waits to limit the rate. *StorageError when all of the storage seems
// to be missing.
func (c *Checker) ScrubBlob(ctx context.Context, d digest.Digest,
	pay func(ctx context.Context, n int) error) (damage string, err error) {
	var size int64
	err = c.DB.Reader().QueryRowContext(ctx, `SELECT size FROM blobs WHERE digest = ?`, d).Scan(&size)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read row of blob %s: %w", d, err)
	}
	found, err := c.Storage.Blob(d).Inspect(ctx, size, pay)
	if err != nil || found.Damage == "" {
		return "", err
	}
	if rewritten, err := c.Store.Rewrite(ctx, d); rewritten || err != nil {
		return "", err
	}
	if found.Seen == nil {
		// A lost blob is far more often a file system that is not mounted, which
		// must not cost a row.
		dir, mounted, err := c.Storage.CheckMounted(ctx, d.Algorithm())
		if err == nil && !mounted {
			err = &StorageError{Path: dir}
		}
		if err != nil {
			return "", fmt.Errorf("look at the storage: %w", err)
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

// Quarantine inspects a blob that failed to open, and quarantines it if its file is damaged or
// missing. A file that cannot be read may be whole, but no client gets it, and a client that pushes
// it again repairs it. It returns failed, and a *StorageError, when other blobs are affected as
// well.
func (c *Checker) Quarantine(ctx context.Context, d digest.Digest, size int64, failed error) error {
	if rewritten, err := c.Store.Rewrite(ctx, d); rewritten || err != nil {
		return err
	}
	found, err := c.Storage.Blob(d).Inspect(ctx, size, nil)
	if err != nil {
		return errors.Join(failed, err)
	}
	unreadable := blobfile.IsDamage(failed)
	if found.Damage == "" && unreadable {
		found.Damage = blobfile.Unreadable(failed)
	}
	if found.Damage == "" {
		return nil // repaired since
	}
	if found.Seen == nil || unreadable {
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

// checkOthers returns an error unless there are other blobs, and most of a sample can be opened.
// While a file system is not mounted, or a disk fails, reads of many blobs must not empty the store
// row by row.
func (c *Checker) checkOthers(ctx context.Context, d digest.Digest) error {
	tried, opened, err := c.try(ctx, d.Algorithm(), d)
	if err == nil && (opened == 0 || 2*opened < tried) {
		err = &StorageError{Path: c.Storage.Root()}
	}
	return err
}

// CheckStorage returns a *StorageError when most of several blobs cannot be opened: the files are
// those of another store.
func (c *Checker) CheckStorage(ctx context.Context, a digest.Algorithm, except digest.Digest) error {
	tried, opened, err := c.try(ctx, a, except)
	if err == nil && tried > 1 && 2*opened < tried {
		err = &StorageError{Path: c.Storage.Root()}
	}
	return err
}

// try returns how many of a sample of blobs can be opened, of another algorithm when there are none
// of this one. One that is being put, whose file is behind its row, is not of the sample.
func (c *Checker) try(ctx context.Context, a digest.Algorithm, except digest.Digest) (tried, opened int, err error) {
	seen, behind := map[digest.Digest]bool{}, 0
	for _, a := range []digest.Algorithm{a, digest.SHA256, digest.SHA512} {
		if len(seen) > 0 {
			break
		}
		for _, digit := range "0123456789abcdef" {
			var other digest.Digest
			err := c.DB.Reader().QueryRowContext(ctx,
				`SELECT digest FROM blobs WHERE digest >= ? AND digest <> ? ORDER BY digest LIMIT 1`,
				fmt.Sprintf("%s:%c", a, digit), except).Scan(&other)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return 0, 0, fmt.Errorf("look for other blobs: %w", err)
			}
			if err != nil || seen[other] || image.CheckDigest(other) != nil {
				continue
			}
			seen[other] = true
			inFlight := c.Guard.InFlight(other) // before it is opened: a put ends after its file is there
			if c.Storage.Blob(other).Readable(ctx) {
				opened++
			} else if inFlight {
				behind++
			}
		}
	}
	return len(seen) - behind, opened, nil
}

// lookTime is how long a storage has to answer within a transaction, which all other writes wait for.
const lookTime = 3 * time.Second

// quarantine takes a damaged blob out of service, unless it was collected or replaced since. That it was not
// replaced is known in the transaction alone. A storage that answers nothing is found out before, or else leaves the
// blob to the next look.
func (c *Checker) quarantine(ctx context.Context, d digest.Digest, size int64,
	found blobstore.Finding) (done bool, err error) {
	if !c.Storage.Blob(d).IsStill(ctx, found.Seen) {
		return false, nil
	}
	if err := c.Store.MayRemove(ctx); err != nil {
		return false, err
	}
	var marked bool
	defer func() {
		if marked {
			c.Guard.Unmark(ctx, d)
		}
	}()
	err = c.DB.Freeing(func() error {
		return c.DB.Write(ctx, func(tx *sql.Tx) error {
			if marked { // by a run of this transaction that was rolled back
				c.Guard.Unmark(ctx, d)
			}
			marked, done = false, false
			exists, err := database.Exists(ctx, tx, `SELECT 1 FROM blobs WHERE digest = ?`, d)
			if err != nil || !exists {
				return err
			}
			if marked, err = c.Guard.MarkNow(ctx, tx, d); err != nil || !marked {
				return err
			}
			within, end := context.WithTimeout(ctx, lookTime)
			defer end()
			if !c.Storage.Blob(d).IsStill(within, found.Seen) {
				return errRepaired // what a mark has written is not committed
			}
			done = true
			return QuarantineRow(ctx, tx, d, size, found.Damage, c.Now())
		})
	})
	if errors.Is(err, errRepaired) {
		return false, nil
	}
	if err != nil || !done {
		return false, err
	}
	c.Log.Error("a damaged blob is in quarantine", "digest", d, "damage", found.Damage)
	// The file has no row any more. If it cannot be moved, collection removes it.
	if err := c.Guard.Remove(ctx, d, c.Storage.Blob(d).Quarantine); err != nil {
		c.Log.Warn("could not move a damaged blob to quarantine", "digest", d, "error", err)
	}
	return true, nil
}

var errRepaired = errors.New("the blob was replaced since it was found damaged")

// QuarantineRow moves the row of a blob and its links to quarantine.
func QuarantineRow(ctx context.Context, tx *sql.Tx, d digest.Digest, size int64, cause string, now time.Time) error {
	for _, step := range []struct {
		text string
		args []any
	}{
		{`INSERT INTO quarantine (digest, size, cause, since) VALUES (?, ?, ?, ?)`,
			[]any{d, size, cause, database.Nanos(now)}},
		{`INSERT INTO quarantine_links (digest, repository, linked)
			SELECT digest, repository, linked FROM repository_blobs WHERE digest = ?`, []any{d}},
		// A run that staged it is told that it is missing when it puts the manifest.
		{`DELETE FROM run_blobs WHERE digest = ?`, []any{d}},
		{`DELETE FROM blobs WHERE digest = ?`, []any{d}},
	} {
		if _, err := tx.ExecContext(ctx, step.text, step.args...); err != nil {
			return fmt.Errorf("quarantine blob %s: %w", d, err)
		}
	}
	return nil
}

// PutBack reads the content of a blob in quarantine to its end and puts it back into service. It
// fails if the content has another digest.
func (c *Checker) PutBack(ctx context.Context, d digest.Digest, size int64, content io.Reader) error {
	if err := c.Store.PutBack(ctx, d, size, content); err != nil {
		return fmt.Errorf("put back blob %s: %w", d, err)
	}
	return nil
}

// Reinspect reads the file of a blob in quarantine again, as ScrubBlob does, and puts it back if it
// is whole: the medium, and not the content, may have failed.
func (c *Checker) Reinspect(ctx context.Context, d digest.Digest, size int64,
	pay func(ctx context.Context, n int) error) (whole bool, err error) {
	if image.CheckDigest(d) != nil {
		return false, nil
	}
	file := c.Storage.Quarantined(d)
	seen, err := file.Inspect(ctx, size, pay)
	if err != nil || seen.Damage != "" {
		return false, err
	}
	f, err := file.Open(ctx, size)
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
func (c *Checker) Quarantined(ctx context.Context) ([]Damage, error) {
	columns := func(d *Damage) []any { d.Known = true; return []any{&d.Digest, &d.Size, &d.Cause} }
	all, err := database.List(ctx, c.DB.Reader(), columns, `SELECT digest, size, cause FROM quarantine ORDER BY digest`)
	if err != nil {
		return nil, fmt.Errorf("list quarantine: %w", err)
	}
	return all, nil
}

// TidyQuarantine deletes damaged blobs without references, and the files of those that have left.
func (c *Checker) TidyQuarantine(ctx context.Context) error {
	err := c.DB.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM quarantine
			WHERE NOT EXISTS (SELECT 1 FROM manifest_refs f WHERE f.digest = quarantine.digest)`)
		return err
	})
	if err != nil {
		return fmt.Errorf("tidy quarantine: %w", err)
	}
	err = c.Storage.TidyQuarantine(ctx, func(d digest.Digest) (bool, error) {
		if err := c.Store.MayRemove(ctx); err != nil {
			return true, err
		}
		return database.Exists(ctx, c.DB.Reader(), `SELECT 1 FROM quarantine WHERE digest = ?`, d)
	})
	if err != nil {
		return fmt.Errorf("tidy quarantine: %w", err)
	}
	return nil
}

// ScrubCursor returns the last blob that an unfinished scrub has read, or "".
func (c *Checker) ScrubCursor(ctx context.Context) (digest.Digest, error) {
	last, err := c.Store.Note(ctx, ScrubCursor)
	return digest.Digest(last), err
}

// SetScrubCursor saves the last blob that a scrub has read, for the next scrub, also
// after a restart.
func (c *Checker) SetScrubCursor(ctx context.Context, d digest.Digest) error {
	return c.Store.SetNote(ctx, ScrubCursor, d.String())
}

// StorageError reports that the storage has no blobs, or hardly any, for the rows.
type StorageError struct{ Path string }

func (e *StorageError) Error() string {
	return "the blobs of the database are not in " + e.Path + ", none of them or few"
}

// Hint returns the next step.
func (e *StorageError) Hint() string {
	return "check that the file system of the storage is mounted (findmnt -T " + e.Path + ") and that `storage:` in config.yaml is right; if the blobs are lost, restore a backup (`appliance restore`)"
}
