package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// What scrub needs of the store; gc has the rest. A damaged blob goes to quarantine: its row moves to
// another table, so that it is not found any more, and its file to <Storage>/quarantine, for people to look
// at. It leaves when the blob comes back, whichever way, or when nothing is made of it any more.

const (
	scrubCursor  = "scrub.cursor"
	imagesListed = 100
)

// Blobs lists the blobs after a digest ("" for all) in the order of their digests. yield may take its time,
// nothing is held while it runs.
func (s *Store) Blobs(ctx context.Context, after digest.Digest, yield func(d digest.Digest, size int64) error) error {
	return eachBlob(ctx, s.db.Reader(), after, func(b sized) error { return yield(b.digest, b.size) })
}

// ScrubBlob reads a blob to its end and says in what way it is damaged, "" if it is whole or not held any
// more. A damaged one is in quarantine when it returns. pay is called with how many bytes were read, 64 KiB
// at most, and waits as long as the next ones are to wait. *StorageError when it looks as if not the blob
// were missing but all of the storage.
func (s *Store) ScrubBlob(ctx context.Context, d digest.Digest, pay func(ctx context.Context, n int) error) (damage string, err error) {
	b := sized{digest: d}
	err = s.db.Reader().QueryRowContext(ctx, `SELECT size FROM blobs WHERE digest = ?`, d).Scan(&b.size)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read row of blob %s: %w", d, err)
	}
	seen, err := s.files.Blob(d).Inspect(ctx, b.size, pay)
	if err != nil || seen.Damage == "" {
		return "", err
	}
	if mended, err := s.mend(ctx, d); mended || err != nil {
		return "", err
	}
	if seen.Info == nil {
		if err := s.checkMounted(d.Algorithm()); err != nil {
			return "", err
		}
		if err := s.checkSome(ctx, d.Algorithm(), d); err != nil {
			return "", err
		}
	}
	taken, err := s.quarantine(ctx, b, seen)
	if err != nil || !taken {
		return "", err
	}
	return seen.Damage, nil
}

// takeOut looks again at a blob that failed to open, and takes it out of service if its file is damaged or gone. A
// file that the medium does not give may be whole, but nobody is served from it, and whoever brings it again is.
// It fails with what failed, and a *StorageError, when this is not the misfortune of one blob.
func (s *Store) takeOut(ctx context.Context, b sized, failed error) error {
	if mended, err := s.mend(ctx, b.digest); mended || err != nil {
		return err
	}
	seen, err := s.files.Blob(b.digest).Inspect(ctx, b.size, nil)
	if err != nil {
		return errors.Join(failed, err)
	}
	unreadable := blobfile.IsDamage(failed)
	if seen.Damage == "" && unreadable {
		seen.Damage = blobfile.Unreadable(failed)
	}
	if seen.Damage == "" {
		return nil // whole by now
	}
	if seen.Info == nil || unreadable {
		err = s.checkOthers(ctx, b.digest)
	}
	if err == nil {
		_, err = s.quarantine(ctx, b, seen)
	}
	if err != nil {
		return errors.Join(failed, err)
	}
	return nil
}

// checkOthers fails unless there are other blobs, and most of those that it tries can be opened. Reads come for many
// blobs at once: while a file system is not mounted, or a disk gives up, they must not empty the store row by row.
func (s *Store) checkOthers(ctx context.Context, d digest.Digest) error {
	tried, opened, err := s.try(ctx, d.Algorithm(), d)
	if err == nil && (opened == 0 || 2*opened < tried) {
		err = &StorageError{Path: s.files.Root()}
	}
	return err
}

// checkSome fails when most of several blobs cannot be opened: what is there is the storage of another store. Of one it
// cannot be told.
func (s *Store) checkSome(ctx context.Context, a digest.Algorithm, except digest.Digest) error {
	tried, opened, err := s.try(ctx, a, except)
	if err == nil && tried > 1 && 2*opened < tried {
		err = &StorageError{Path: s.files.Root()}
	}
	return err
}

// try says how many of some blobs from all over the storage can be opened. Those of another algorithm tell when there
// are none of this one.
func (s *Store) try(ctx context.Context, a digest.Algorithm, except digest.Digest) (tried, opened int, err error) {
	seen := map[digest.Digest]bool{}
	for _, a := range []digest.Algorithm{a, digest.SHA256, digest.SHA512} {
		if len(seen) > 0 {
			break
		}
		for _, digit := range "0123456789abcdef" {
			var other digest.Digest
			err := s.db.Reader().QueryRowContext(ctx, `SELECT digest FROM blobs WHERE digest >= ? AND digest <> ? ORDER BY digest LIMIT 1`,
				fmt.Sprintf("%s:%c", a, digit), except).Scan(&other)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return 0, 0, fmt.Errorf("look for other blobs: %w", err)
			}
			if err != nil || seen[other] || image.CheckDigest(other) != nil {
				continue
			}
			seen[other] = true
			if s.files.Blob(other).Readable() {
				opened++
			}
		}
	}
	return len(seen), opened, nil
}

// checkMounted returns a *StorageError when there is no blob file at all: what looks like the loss of every blob is far more
// often a file system that is not mounted, and must not cost a row.
func (s *Store) checkMounted(a digest.Algorithm) error {
	dir, mounted, err := s.files.CheckMounted(a)
	if err != nil {
		return fmt.Errorf("look at the storage: %w", err)
	}
	if !mounted {
		return &StorageError{Path: dir}
	}
	return nil
}

// quarantine takes a damaged blob out of service, unless it was collected or replaced since it was seen.
func (s *Store) quarantine(ctx context.Context, b sized, seen blobfile.Finding) (taken bool, err error) {
	var marked bool
	defer func() {
		if marked {
			s.guard.Blobs.Unmark(b.digest)
		}
	}()
	err = s.db.Freeing(func() error {
		return s.db.Write(ctx, func(tx *sql.Tx) error {
			held, err := sqlite.Exists(ctx, tx, `SELECT 1 FROM blobs WHERE digest = ?`, b.digest)
			if err != nil || !held {
				return err
			}
			if marked = marked || s.guard.Blobs.MarkNow(b.digest, 0); !marked || !s.files.Blob(b.digest).IsStill(seen.Info) {
				return nil
			}
			taken = true
			return s.quarantineRow(ctx, tx, b, seen.Damage)
		})
	})
	if err != nil || !taken {
		return false, err
	}
	s.log.Error("a damaged blob is in quarantine", "digest", b.digest, "damage", seen.Damage)
	// From here on no row names the file. If it cannot be moved, collection takes it.
	if err := s.files.Blob(b.digest).Quarantine(); err != nil {
		s.log.Warn("could not move a damaged blob to quarantine", "digest", b.digest, "error", err)
	}
	return true, nil
}

// quarantineRow moves the row of a blob to quarantine, and with it what links it.
func (s *Store) quarantineRow(ctx context.Context, tx *sql.Tx, b sized, cause string) error {
	for _, step := range []struct {
		text string
		args []any
	}{
		{`INSERT INTO quarantine (digest, size, cause, since) VALUES (?, ?, ?, ?)`, []any{b.digest, b.size, cause, sqlite.Nanos(s.now())}},
		{`INSERT INTO quarantine_links (digest, repository, linked)
			SELECT digest, repository, linked FROM repository_blobs WHERE digest = ?`, []any{b.digest}},
		// A run that has counted on it is told that it is missing when it puts the manifest.
		{`DELETE FROM run_blobs WHERE digest = ?`, []any{b.digest}},
		{`DELETE FROM blobs WHERE digest = ?`, []any{b.digest}},
	} {
		if _, err := tx.ExecContext(ctx, step.text, step.args...); err != nil {
			return fmt.Errorf("quarantine blob %s: %w", b.digest, err)
		}
	}
	return nil
}

// PutBack reads a blob that was in quarantine to its end and puts it back to where it was. *DigestError when
// it is another, *FullError.
func (s *Store) PutBack(ctx context.Context, d digest.Digest, size int64, content io.Reader) error {
	u, err := s.newUpload("", size)
	if err != nil {
		return err
	}
	// One byte more than there may be, so that an endless source is noticed and not followed.
	if _, err = u.ReadFrom(io.LimitReader(throttle.Reader(ctx, content, throttle.New(0)), size+1)); err == nil {
		// The links come from quarantine, by trigger.
		err = u.commitTo(ctx, d, func(context.Context, *sql.Tx) error { return nil })
	}
	if err := errors.Join(err, u.Close()); err != nil { // which discards it, unless it was committed
		return fmt.Errorf("put back blob %s: %w", d, err)
	}
	return nil
}

// Reinspect reads the file of a blob in quarantine again, as ScrubBlob does, and puts it back where it was if it is whole
// after all: the medium, and not the content, may have been what failed.
func (s *Store) Reinspect(ctx context.Context, d digest.Digest, size int64, pay func(ctx context.Context, n int) error) (whole bool, err error) {
	if image.CheckDigest(d) != nil {
		return false, nil
	}
	file := s.files.Quarantined(d)
	seen, err := file.Inspect(ctx, size, pay)
	if err != nil || seen.Damage != "" {
		return false, err
	}
	f, err := file.Open(size)
	if err != nil {
		return false, fmt.Errorf("read blob %s again: %w", d, err)
	}
	defer f.Close()
	if err := s.PutBack(ctx, d, size, f); err != nil {
		return false, err
	}
	s.log.Info("a blob in quarantine is whole, and in service again", "digest", d)
	return true, nil
}

// Quarantined lists the blobs in quarantine in the order of their digests.
func (s *Store) Quarantined(ctx context.Context, yield func(d digest.Digest, size int64, cause string, since time.Time) error) error {
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
	if err := sqlite.Query(ctx, s.db.Reader(), scan, `SELECT digest, size, cause, since FROM quarantine ORDER BY digest`); err != nil {
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
func (s *Store) TidyQuarantine(ctx context.Context) error {
	err := s.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM quarantine
			WHERE NOT EXISTS (SELECT 1 FROM manifest_refs f WHERE f.digest = quarantine.digest)`)
		return err
	})
	if err != nil {
		return fmt.Errorf("tidy quarantine: %w", err)
	}
	err = s.files.TidyQuarantine(func(d digest.Digest) (bool, error) {
		return sqlite.Exists(ctx, s.db.Reader(), `SELECT 1 FROM quarantine WHERE digest = ?`, d)
	})
	if err != nil {
		return fmt.Errorf("tidy quarantine: %w", err)
	}
	return nil
}

// BlobImages lists what cannot be pulled whole without a blob, as repository:tag, or repository@digest for
// what no tag leads to; a hundred at most.
func (s *Store) BlobImages(ctx context.Context, d digest.Digest, yield func(image string) error) error {
	var images []string
	scan := func(rows *sql.Rows) error {
		var image string
		err := rows.Scan(&image)
		images = append(images, image)
		return err
	}
	err := sqlite.Query(ctx, s.db.Reader(), scan, `WITH RECURSIVE up (digest) AS (
			SELECT manifest FROM manifest_refs WHERE digest = ?1
			UNION SELECT f.manifest FROM up JOIN manifest_refs f ON f.digest = up.digest AND f.kind = 'child')
		SELECT r.name || ':' || t.name AS image FROM up
			JOIN repository_manifests rm ON rm.digest = up.digest
			JOIN repositories r ON r.id = rm.repository
			JOIN tags t ON t.repository = rm.repository AND t.digest = rm.digest
		UNION
		SELECT r.name || '@' || up.digest FROM up
			JOIN repository_manifests rm ON rm.digest = up.digest
			JOIN repositories r ON r.id = rm.repository
			WHERE NOT EXISTS (SELECT 1 FROM tags t WHERE t.repository = rm.repository AND t.digest = rm.digest)
			AND NOT EXISTS (SELECT 1 FROM manifest_refs f
				JOIN repository_manifests p ON p.digest = f.manifest AND p.repository = rm.repository
				WHERE f.digest = up.digest AND f.kind = 'child')
		ORDER BY image LIMIT ?2`, d, imagesListed)
	if err != nil {
		return fmt.Errorf("list images of blob %s: %w", d, err)
	}
	for _, image := range images {
		if err := yield(image); err != nil {
			return err
		}
	}
	return nil
}

// ScrubCursor is the last blob that a scrub under way has read, "" when none is.
func (s *Store) ScrubCursor(ctx context.Context) (digest.Digest, error) {
	var d digest.Digest
	err := s.db.Reader().QueryRowContext(ctx, `SELECT value FROM meta WHERE name = ?`, scrubCursor).Scan(&d)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read how far scrub has got: %w", err)
	}
	return d, nil
}

// SetScrubCursor records how far a scrub has got, so that it goes on from there also after a restart.
func (s *Store) SetScrubCursor(ctx context.Context, d digest.Digest) error {
	return s.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES (?, ?)
			ON CONFLICT DO UPDATE SET value = excluded.value`, scrubCursor, d)
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

// Hint says what to do next.
func (e *StorageError) Hint() string {
	return "check that the file system of the storage is mounted (findmnt -T " + e.Path + ") and that `storage:` in config.yaml is right; if the blobs are lost, restore a backup (`appliance restore`)"
}
