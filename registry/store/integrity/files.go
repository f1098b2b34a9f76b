package integrity

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// blobs looks at the file of every blob.
func (v *verification) blobs(ctx context.Context) error {
	defer v.progress()
	return v.Blobs(ctx, "", func(d digest.Digest, size int64) error {
		if err := v.blob(ctx, d, size); err != nil {
			return err
		}
		v.report.Blobs++
		v.report.BlobBytes += size
		if v.report.Blobs%blobPage == 0 {
			v.progress()
		}
		return nil
	})
}

// blob looks at one blob. What a collection or a scrub did between the row and the file is not damage: the guard counts what
// they mark, and when it counted anything meanwhile, this looks again.
func (v *verification) blob(ctx context.Context, d digest.Digest, size int64) error {
	for {
		epoch, behind := v.Guard.Epoch(), v.Guard.InFlight(d)
		found, err := v.Files.Blob(d).Inspect(ctx, size, v.pace)
		v.report.ContentBytes += found.Read
		if err != nil || found.Damage == "" {
			return err
		}
		exists, err := sqlite.Exists(ctx, v.DB.Reader(), `SELECT 1 FROM blobs WHERE digest = ?`, d)
		if err != nil || !exists || v.Store.HasBytes(d) {
			return err
		}
		if behind { // its file may have been a moment behind its row
			if err := retry.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
			continue
		}
		if epoch == v.Guard.Epoch() {
			v.problem(ProblemBlob, d.String(), found.Damage, remedyScrub)
			return nil
		}
	}
}

// extra counts the files that no row names: what a crash leaves, and files of other programs.
func (v *verification) extra(ctx context.Context) error {
	return v.Store.UnnamedFiles(ctx, func(_ digest.Digest, size int64) error {
		v.report.ExtraFiles++
		v.report.ExtraBytes += size
		return ctx.Err()
	})
}

// uploads counts the uploads that were left behind.
func (v *verification) uploads(ctx context.Context) error {
	return v.Store.StaleUploads(ctx, v.Now().Add(-staleAfter), func(_ string, size int64) error {
		v.report.StaleUploads++
		v.report.StaleUploadBytes += size
		return nil
	})
}
