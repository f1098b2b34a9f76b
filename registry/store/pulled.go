package store

import (
	"context"
	"database/sql"
	"fmt"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// What pull-through needs and a push may not have: a manifest before its
// layers, and the bytes of a blob before they are all there.

// ExistsInAnother reports whether a blob exists that is not visible in repo. It becomes visible once
// the upstream of repo has confirmed that it has the blob too: see LinkPulled.
func (s *Blobs) ExistsInAnother(ctx context.Context, repo string, d digest.Digest) (bool, error) {
	if err := checkRepositoryAndDigest(repo, d); err != nil {
		return false, err
	}
	exists, err := sqlite.Exists(ctx, s.db.Reader(), `SELECT 1 FROM blobs b WHERE b.digest = ?2 AND NOT EXISTS (
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

// NewPulled begins the download of a blob of an upstream, of size bytes, -1 if that is not known. Clients cannot name it as
// a session. arrived is called after each write with the number of new bytes that a reader of Open sees. *FullError if the
// disk has no space for it.
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
	return u, nil
}

// LinkPulled makes an existing blob visible in repo without another download, once the upstream of repo has confirmed that
// it has the blob, of that size (-1: the upstream did not say). ErrNotFound when the blob does not exist, has another size,
// or has lost its file: a download then repairs it.
func (s *Blobs) LinkPulled(ctx context.Context, repo string, d digest.Digest, size int64) error {
	if err := checkRepositoryAndDigest(repo, d); err != nil {
		return err
	}
	return s.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		var held int64
		err := tx.QueryRowContext(ctx, `SELECT size FROM blobs WHERE digest = ?1 AND ?2 IN (size, -1)`, d, size).Scan(&held)
		if err != nil {
			return orNotFound(err, "blob", d.String())
		}
		if err := s.files.Blob(d).Check(held); blobfile.IsLoss(err) {
			return &NotFoundError{Kind: "blob", Name: d.String()}
		} else if err != nil {
			return fmt.Errorf("look at blob %s: %w", d, err)
		}
		id, err := s.ensureRepository(ctx, tx, repo)
		if err != nil {
			return err
		}
		return s.linkBlob(ctx, tx, id, d, byPull)
	})
}

// PutPulled puts a manifest of an upstream into repo and moves tags to
// it, as PutManifest does, but asks for none of its config and layers: a client
// that pulls through reads the manifest first and the layers afterwards, or
// never. Until then they are not found, also when another repository holds them,
// and pull-through fetches them or asks the upstream for them. What came
// in no other way may be evicted again, see EvictPulled. Errors:
// *InvalidError, *DigestError, *FullError.
func (s *Manifests) PutPulled(ctx context.Context, repo string, body []byte, o PutOptions) (Manifest, error) {
	m, err := s.putManifest(ctx, repo, body, o, byPull, func(context.Context, *sql.Tx, image.Manifest) error { return nil })
	if err == nil {
		s.arrivals.add(int64(len(body)))
	}
	return m, err
}

// Open opens what has been written for reading, and what is written later can be read from the same file. It stays readable
// after Commit and Cancel. No digest was verified before Commit has returned.
func (u *Upload) Open() (*os.File, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil, fmt.Errorf("read upload %s: %w", u.ID(), os.ErrClosed)
	}
	f, err := u.bytes.Open()
	if err != nil {
		return nil, diskspace.Full(u.store.files.Root(), 0, fmt.Errorf("read upload %s: %w", u.ID(), err))
	}
	return f, nil
}
