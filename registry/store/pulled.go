package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// What pull-through needs and a push may not have: a manifest before its
// layers, and the bytes of a blob before they are all there.

// ExistsInAnother reports whether a blob exists that is not visible in repo. It becomes visible
// once the upstream of repo has confirmed that it has the blob too: see LinkPulled.
func (s *Blobs) ExistsInAnother(ctx context.Context, repo string, d digest.Digest) (bool, error) {
	if err := checkRepositoryAndDigest(repo, d); err != nil {
		return false, err
	}
	exists, err := database.Exists(ctx, s.db.Reader(), `SELECT 1 FROM blobs b WHERE b.digest = ?2 AND NOT EXISTS (
		SELECT 1 FROM repositories r CROSS JOIN repository_blobs l WHERE r.name = ?1 AND l.repository = r.id AND l.digest = ?2)`, repo, d)
	if err != nil {
		return false, fmt.Errorf("look for blob %s: %w", d, err)
	}
	return exists, nil
}

// ReferencedSize returns the size of a blob by the manifests of repo that refer to it, the largest
// where they differ; -1 if none does.
func (s *Blobs) ReferencedSize(ctx context.Context, repo string, d digest.Digest) (size int64, err error) {
	if err := checkRepositoryAndDigest(repo, d); err != nil {
		return 0, err
	}
	err = s.db.Reader().QueryRowContext(ctx, `SELECT coalesce(max(f.size), -1) FROM repositories r CROSS JOIN manifest_refs f
		CROSS JOIN repository_manifests l ON l.repository = r.id AND l.digest = f.manifest
		WHERE r.name = ? AND f.digest = ?`, repo, d).Scan(&size)
	if err != nil {
		return 0, fmt.Errorf("look for the size of blob %s: %w", d, err)
	}
	return size, nil
}

// NewPulled begins the download of a blob of size bytes, -1 if unknown. Clients cannot name it as a
// session. arrived is called after each write with the number of new bytes, which a reader of Open
// sees. *FullError, *TooLargeError.
func (s *Uploads) NewPulled(ctx context.Context, repo string, size int64, arrived func(n int)) (*Upload, error) {
	if err := image.CheckRepository(repo); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	u, err := s.newUpload(repo, max(0, size))
	if err != nil {
		return nil, err
	}
	u.by, u.arrived = byPull, arrived
	return u.readable(ctx)
}

// readable returns a download, unless this host has no space for what its readers have yet to read. It is cancelled then.
func (u *Upload) readable(ctx context.Context) (*Upload, error) {
	if err := u.store.checkSpool(max(0, u.want-u.bytes.Size())); err != nil {
		return nil, errors.Join(fmt.Errorf("begin download: %w", err), u.Cancel(ctx))
	}
	return u, nil
}

// PulledPart returns how many bytes of a blob of size bytes ContinuePulled can go on from: what a download
// or a run left that broke off, also by a kill. It is less than size.
func (s *Uploads) PulledPart(ctx context.Context, d digest.Digest, size int64) int64 {
	if s.files == nil { // readers could not follow from the first byte
		return 0
	}
	if size < partialFrom || s.guard.Sessions.InUse(ctx, blobstore.PartialID(d)) {
		return 0
	}
	return min(s.blobs.PartialSize(ctx, d), size-1)
}

// ContinuePulled is NewPulled for a blob of a known size, after its first offset bytes. *PartialError if
// the store does not have them any more, *FullError.
func (s *Uploads) ContinuePulled(ctx context.Context, repo string, d digest.Digest, size, offset int64, arrived func(n int)) (*Upload, error) {
	if err := checkRepositoryAndDigest(repo, d); err != nil {
		return nil, err
	}
	u, err := s.openPartial(ctx, repo, ocispec.Descriptor{Digest: d, Size: size}, offset)
	if err != nil {
		return nil, err
	}
	u.repo, u.by, u.arrived = repo, byPull, arrived
	return u.readable(ctx)
}

// Keep ends an upload, and keeps what came of it for ContinuePulled, where it can. After Commit and Cancel
// it does nothing.
func (u *Upload) Keep() error {
	u.leave()
	return u.Close()
}

// LinkPulled makes an existing blob visible in repo without a download, once the upstream of repo
// has confirmed it, with its size or -1. ErrNotFound when the blob does not exist, has another
// size, or has lost its file, which a download repairs.
func (s *Blobs) LinkPulled(ctx context.Context, repo string, d digest.Digest, size int64) error {
	if err := checkRepositoryAndDigest(repo, d); err != nil {
		return err
	}
	const row = `SELECT size FROM blobs WHERE digest = ?1 AND CAST(?2 AS BIGINT) IN (size, -1)`
	if err := s.lookBefore(ctx, d, row, d, size); err != nil {
		return err
	}
	return s.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		var held int64
		err := tx.QueryRowContext(ctx, row, d, size).Scan(&held)
		if err != nil {
			return orNotFound(err, "blob", d.String())
		}
		return s.linkExisting(ctx, tx, repo, d, held, byPull)
	})
}

// PutPulled is Put for a manifest of an upstream, without a check of its config and layers: a
// client pulls the layers after the manifest, or never. Until then they are not found, also when
// another repository has them, and pull-through fetches or confirms them. The manifest may be
// evicted again unless a push brings it. Errors: *InvalidError, *DigestError, *FullError.
func (s *Manifests) PutPulled(ctx context.Context, repo string, body []byte, o PutOptions) (Manifest, error) {
	none := func(context.Context, *sql.Tx) error { return nil }
	m, err := s.putManifest(ctx, repo, body, o, byPull, func(image.Manifest) (checkFunc, error) { return none, nil })
	if err == nil {
		s.arrivals.add(int64(len(body)))
	}
	return m, err
}

// Open opens the content for reading, also that which is written later. It stays readable after
// Commit and Cancel. Its digest is verified once Commit has returned.
func (u *Upload) Open() (blobstore.Reader, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil, fmt.Errorf("read upload %s: %w", u.ID(), os.ErrClosed)
	}
	f, err := u.bytes.Open()
	if err != nil {
		return nil, diskspace.Full(u.store.blobs.Root(), 0, fmt.Errorf("read upload %s: %w", u.ID(), err))
	}
	return f, nil
}

// accessBatch is how many times of access one transaction writes, which pushes wait for.
const accessBatch = 1000

// linkKey is a manifest or a blob of a repository.
type linkKey struct {
	repository int64
	digest     digest.Digest
}

// accesses remembers when pulled-through manifests were last requested. A read must not cost a
// write, so they are saved together, at intervals; a crash loses some, and eviction then chooses a
// little worse. There are no more of them than manifests.
type accesses struct {
	mu sync.Mutex
	at map[linkKey]time.Time
}

func (a *accesses) record(of linkKey, t time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.at == nil {
		a.at = map[linkKey]time.Time{}
	}
	a.at[of] = t
}

// take returns the times that are remembered, and forgets them.
func (a *accesses) take() map[linkKey]time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := a.at
	a.at = nil
	return at
}

// flushLastAccess writes the times of access since its last call.
func (s *core) flushLastAccess(ctx context.Context) error {
	at := s.accesses.take()
	batch := make(map[linkKey]time.Time, min(accessBatch, len(at)))
	for of, t := range at {
		batch[of] = t
		delete(at, of)
		if len(batch) < accessBatch && len(at) > 0 {
			continue
		}
		if err := s.db.Write(ctx, func(tx *sql.Tx) error { return writeLastAccess(ctx, tx, batch) }); err != nil {
			return fmt.Errorf("write times of last access: %w", err)
		}
		clear(batch)
	}
	return nil
}

func writeLastAccess(ctx context.Context, tx *sql.Tx, at map[linkKey]time.Time) error {
	for of, t := range at {
		_, err := tx.ExecContext(ctx, `UPDATE repository_manifests SET used = max(used, ?)
			WHERE repository = ? AND digest = ? AND pulled = 1`, database.Nanos(t), of.repository, of.digest)
		if err != nil {
			return err
		}
	}
	return nil
}
