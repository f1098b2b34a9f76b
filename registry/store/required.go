package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

const stagedBlob = `SELECT b.size FROM blobs b WHERE b.digest = ?3 AND (` + blobHere + `)`

// requires returns a check that fails with a *MissingError unless the required blobs of a manifest have
// rows, which text selects, and with an *InvalidError if the manifest has another size of one: clients
// refuse to pull such an image.
//
// That a blob has a row proves that collection has not removed it. The check also looks for its bytes:
// a new manifest must not refer to what the storage has lost. A storage that is asked over the
// network is asked before the transaction, since all other writes wait for that. A row that comes
// after this has its bytes, as each row of a new blob has.
func (s *core) requires(ctx context.Context, p image.Manifest, text string, args func(digest.Digest) []any) (checkFunc, error) {
	lost, err := s.findLost(ctx, p, text, args)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, tx *sql.Tx) error {
		var missing []digest.Digest
		for _, r := range p.Required() {
			var size int64
			err := tx.QueryRowContext(ctx, text, args(r.Digest)...).Scan(&size)
			if err == nil && size != r.Size {
				return invalidManifest("it says that its blob %s has %d bytes, which has %d", r.Digest, r.Size, size)
			}
			if err == nil && s.files != nil {
				err = s.blobs.Blob(r.Digest).Check(ctx, size)
			}
			switch {
			case errors.Is(err, sql.ErrNoRows) || blobstore.IsLoss(err) || lost[r.Digest]:
				missing = append(missing, r.Digest)
			case err != nil:
				return fmt.Errorf("look for blob %s: %w", r.Digest, err)
			}
		}
		if len(missing) > 0 {
			return &MissingError{Digests: missing}
		}
		return nil
	}, nil
}

// askedAtOnce is how many blobs of a manifest are looked for at once.
const askedAtOnce = 8

// findLost returns the required blobs that have a row, and whose bytes the storage does not have. Files
// are left to the transaction, which they do not delay.
func (s *core) findLost(ctx context.Context, p image.Manifest, text string, args func(digest.Digest) []any) (map[digest.Digest]bool, error) {
	if s.files != nil {
		return nil, nil
	}
	var mu sync.Mutex // guards lost
	lost := map[digest.Digest]bool{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(askedAtOnce)
	for _, r := range p.Required() {
		var size int64
		err := s.db.Reader().QueryRowContext(ctx, text, args(r.Digest)...).Scan(&size)
		if errors.Is(err, sql.ErrNoRows) || err == nil && size != r.Size {
			continue // the transaction refuses it, unless it comes until then
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("look for blob %s: %w", r.Digest, err), group.Wait())
		}
		group.Go(func() error {
			err := s.blobs.Blob(r.Digest).Check(ctx, size)
			if err != nil && !blobstore.IsLoss(err) {
				return fmt.Errorf("look for blob %s: %w", r.Digest, err)
			}
			mu.Lock()
			defer mu.Unlock()
			lost[r.Digest] = err != nil
			return nil
		})
	}
	return lost, group.Wait()
}
