package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// Confirm makes blobs that other repositories have part of the run, each for the repository that it is listed by, without
// the bytes being sent again. The caller asserts that the source of that repository has each of them, of that size: to
// know the digest of another repository's blob is not a right to it. It gives those that are staged; what is not here any
// more, has another size or has lost its file is to be put.
func (r *Run) Confirm(ctx context.Context, blobs map[string][]ocispec.Descriptor) (staged map[string][]digest.Digest, err error) {
	whole := r.store.remembersFiles()
	var all []confirmed
	for repo, descs := range blobs {
		for _, b := range descs {
			if err := checkRepositoryAndDigest(repo, b.Digest); err != nil {
				return nil, err
			}
			ok, err := whole(b.Digest, b.Size)
			if err != nil {
				return nil, err
			}
			if ok {
				all = append(all, confirmed{wanted{repo, b.Digest}, b.Size})
			}
		}
	}
	if err := r.alive(ctx); err != nil {
		return nil, err
	}
	staged = map[string][]digest.Digest{}
	for batch := range slices.Chunk(all, runBatch) {
		done, err := r.stageConfirmed(ctx, batch)
		if err != nil {
			return nil, err
		}
		for _, w := range done {
			staged[w.repo] = append(staged[w.repo], w.digest)
		}
	}
	return staged, nil
}

// confirmed is a blob that the source of a repository has, and its size there.
type confirmed struct {
	wanted
	size int64
}

// stageConfirmed makes those blobs part of the run that exist with the size that was confirmed.
func (r *Run) stageConfirmed(ctx context.Context, blobs []confirmed) (staged []wanted, err error) {
	err = r.share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		staged = nil
		for _, b := range blobs {
			is, err := sqlite.Exists(ctx, tx, `SELECT 1 FROM blobs WHERE digest = ? AND size = ?`, b.digest, b.size)
			if err != nil {
				return fmt.Errorf("look for blob %s: %w", b.digest, err)
			}
			if !is {
				continue
			}
			if err := r.pin(ctx, tx, b.repo, b.digest); err != nil {
				return err
			}
			staged = append(staged, b.wanted)
		}
		return nil
	})
	return staged, err
}
