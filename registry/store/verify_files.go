package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// blobs looks at the file of every blob, page by page.
func (v *verification) blobs(ctx context.Context) error {
	for last := digest.Digest(""); ; {
		page, err := listBlobs(ctx, v.store.db.Reader(), last)
		if err != nil {
			return err
		}
		for _, b := range page {
			if err := v.blob(ctx, b); err != nil {
				return err
			}
			v.report.Blobs++
			v.report.BlobBytes += b.size
		}
		v.progress()
		if len(page) < blobPage {
			return nil
		}
		last = page[len(page)-1].digest
	}
}

// listBlobs lists a page of the blobs after last, in order.
func listBlobs(ctx context.Context, q sqlite.Querier, last digest.Digest) (page []sized, err error) {
	scan := func(rows *sql.Rows) error {
		var b sized
		err := rows.Scan(&b.digest, &b.size)
		page = append(page, b)
		return err
	}
	err = sqlite.Query(ctx, q, scan, `SELECT digest, size FROM blobs WHERE digest > ? ORDER BY digest LIMIT ?`, last, blobPage)
	if err != nil {
		return nil, fmt.Errorf("list blobs: %w", err)
	}
	return page, nil
}

// blob looks at one blob. What a collection or a scrub did between the row and the file is no damage: the
// guard counts what they take, and when it counted anything meanwhile, this looks again.
func (v *verification) blob(ctx context.Context, b sized) error {
	for {
		epoch, behind := v.store.guard.Blobs.Epoch(), v.store.guard.Blobs.InFlight(b.digest)
		seen, err := v.store.files.Blob(b.digest).Inspect(ctx, b.size, v.pace)
		v.report.ContentBytes += seen.Read
		if err != nil || seen.Damage == "" {
			return err
		}
		held, err := sqlite.Exists(ctx, v.store.db.Reader(), `SELECT 1 FROM blobs WHERE digest = ?`, b.digest)
		if err != nil || !held {
			return err
		}
		if _, ok := v.store.journal.leftOver(b.digest); ok { // its bytes are there, and its file will be
			return nil
		}
		if behind { // its file may have been a moment behind its row
			if err := retry.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
			continue
		}
		if epoch == v.store.guard.Blobs.Epoch() {
			v.problem(ProblemBlob, b.digest.String(), seen.Damage, remedyScrub)
			return nil
		}
	}
}

// extra counts the files that no row names: what a crash leaves, and what others put there.
func (v *verification) extra(ctx context.Context) error {
	count := func(_ digest.Digest, size int64) error {
		v.report.ExtraFiles++
		v.report.ExtraBytes += size
		return ctx.Err()
	}
	ever := v.store.now().Add(100 * 365 * 24 * time.Hour) // however new they are
	for _, a := range blobfile.Algorithms() {
		parts, err := v.store.files.Parts(a)
		if errors.Is(err, fs.ErrNotExist) {
			continue // that its blobs are missing has been reported
		}
		if err != nil {
			return fmt.Errorf("list blob files: %w", err)
		}
		for _, part := range parts {
			if err := v.store.garbageFiles(ctx, part, ever, count); err != nil {
				return err
			}
		}
	}
	return nil
}

// uploads counts the uploads that nobody finished.
func (v *verification) uploads(ctx context.Context) error {
	return v.store.StaleUploads(ctx, v.store.now().Add(-staleAfter), func(_ string, size int64) error {
		v.report.StaleUploads++
		v.report.StaleUploadBytes += size
		return nil
	})
}
