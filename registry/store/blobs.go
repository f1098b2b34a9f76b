package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/guard"
	"github.com/mirror-appliance/appliance/registry/store/leases"
)

// Blob is an open blob. It stays readable when the blob is deleted.
type Blob struct {
	io.ReadSeekCloser // an *os.File in a storage of files, which the kernel can send
	Size              int64
}

// Stat returns the size of a blob of repo. It counts as a check: a client that got an answer may
// put a manifest with the blob, so collection spares it for its grace period, and for as long as a
// push takes.
func (s *Blobs) Stat(ctx context.Context, repo string, d digest.Digest) (int64, error) {
	return s.stat(ctx, repo, d, repo)
}

// stat is Stat. awaited is the repository in which a manifest is expected, or "".
func (s *Blobs) stat(ctx context.Context, repo string, d digest.Digest, awaited string) (int64, error) {
	for range 2 {
		size, err := s.check(ctx, repo, d, awaited)
		if err != nil {
			return 0, err
		}
		if err = s.blobs.Blob(d).Check(ctx, size); err == nil {
			return size, nil
		}
		if !blobstore.IsLoss(err) {
			return 0, fmt.Errorf("look at blob %s: %w", d, err)
		}
		if err := s.checker().Quarantine(ctx, d, size, err); err != nil {
			return 0, err
		}
	}
	return 0, &NotFoundError{Kind: "blob", Name: d.String()}
}

// check is Stat without the file. awaited is the repository in which a manifest is expected, or "".
func (s *core) check(ctx context.Context, repo string, d digest.Digest, awaited string) (int64, error) {
	if err := checkRepositoryAndDigest(repo, d); err != nil {
		return 0, err
	}
	s.reading.count.Add(1)
	var size int64
	err := s.guard.Blobs.Check(ctx, guard.Link{Repository: repo, Digest: d}, awaited, func(ctx context.Context, tx *sql.Tx) error {
		var q database.Querier = s.db.Reader()
		if tx != nil {
			q = tx
		}
		return orNotFound(q.QueryRowContext(ctx, visibleBlob, repo, d).Scan(&size), "blob", d.String())
	})
	return size, err
}

// Open opens a blob of repo. It counts as a check, without an expected manifest. A blob whose file
// is lost or damaged is quarantined and not found from then on, so that the client pushes it again
// or it is fetched again.
func (s *Blobs) Open(ctx context.Context, repo string, d digest.Digest) (*Blob, error) {
	for range 2 {
		size, err := s.check(ctx, repo, d, "")
		if err != nil {
			return nil, err
		}
		f, err := s.blobs.Blob(d).Open(ctx, size)
		if err == nil {
			return &Blob{ReadSeekCloser: f, Size: size}, nil
		}
		err = fmt.Errorf("open blob %s: %w", d, err)
		if blobstore.IsLoss(err) {
			if err = s.checker().Quarantine(ctx, d, size, err); err == nil {
				continue
			}
		}
		s.log.Error("a blob cannot be read", "digest", d, "error", err)
		return nil, err
	}
	// An upload is replacing it.
	return nil, &NotFoundError{Kind: "blob", Name: d.String()}
}

// Address returns an address in S3 from which a client can read a blob of repo for some minutes, without
// a login. It counts as a check as Open does, and quarantines a lost blob as Open does: the storage would
// tell only the client of it.
func (s *Blobs) Address(ctx context.Context, repo string, d digest.Digest) (string, error) {
	b, ok := s.blobs.Blob(d).(interface {
		Address(ctx context.Context) (string, error)
	})
	if !ok {
		return "", fmt.Errorf("blobs in %s have no address for clients", s.blobs.Root())
	}
	if _, err := s.stat(ctx, repo, d, ""); err != nil {
		return "", err
	}
	return b.Address(ctx)
}

// Needed lists at most n blobs after last that a manifest of a repository refers to, and whether
// there are more. A collection keeps those, so that a mirror may leave them out.
func (s *Blobs) Needed(ctx context.Context, last string, n int) (digests []string, more bool, err error) {
	return s.page(ctx, n, `SELECT digest FROM blobs b WHERE digest > ?
		AND EXISTS (SELECT 1 FROM manifest_refs r JOIN repository_manifests rm ON rm.digest = r.manifest WHERE r.digest = b.digest)
		ORDER BY digest LIMIT ?`, last)
}

// Mount makes a blob of the repository from visible in repo; "" means any repository. ErrNotFound
// if it does not exist there.
func (s *Blobs) Mount(ctx context.Context, repo, from string, d digest.Digest) (int64, error) {
	if err := checkRepositoryAndDigest(repo, d); err != nil {
		return 0, err
	}
	text, args := visibleBlob, []any{from, d}
	if from == "" {
		text, args = `SELECT size FROM blobs WHERE digest = ?`, []any{d}
	}
	if err := s.databaseSpace(0); err != nil {
		return 0, fmt.Errorf("mount blob %s: %w", d, err)
	}
	if err := s.lookBefore(ctx, d, text, args...); err != nil {
		return 0, err
	}
	var size int64
	// The link protects the blob from collection, which is a write transaction, too.
	err := s.expecting(repo, d, byPush, func() error {
		return s.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
			if err := tx.QueryRowContext(ctx, text, args...).Scan(&size); err != nil {
				return orNotFound(err, "blob", d.String())
			}
			return s.linkExisting(ctx, tx, repo, d, size, byPush)
		})
	})
	return size, err
}

// expecting records that a client puts a blob into a repository, unless put fails.
func (s *core) expecting(repo string, d digest.Digest, by origin, put func() error) error {
	if by != byPush {
		return put()
	}
	return s.guard.Blobs.Expecting(repo, d, put)
}

// lookBefore looks for the bytes of a blob, whose row text selects, where that takes long: all other writes
// would wait for it. It is for linkExisting, and returns the error of it.
func (s *core) lookBefore(ctx context.Context, d digest.Digest, text string, args ...any) error {
	if s.files != nil {
		return nil
	}
	var size int64
	if err := s.db.Reader().QueryRowContext(ctx, text, args...).Scan(&size); err != nil {
		return orNotFound(err, "blob", d.String())
	}
	return s.lookAt(ctx, d, size)
}

// lookAt returns ErrNotFound unless a blob has its bytes: an upload or a download repairs it.
func (s *core) lookAt(ctx context.Context, d digest.Digest, size int64) error {
	err := s.blobs.Blob(d).Check(ctx, size)
	if blobstore.IsLoss(err) {
		return &NotFoundError{Kind: "blob", Name: d.String()}
	}
	if err != nil {
		return fmt.Errorf("look at blob %s: %w", d, err)
	}
	return nil
}

// linkExisting makes a blob visible in repo if its bytes exist, or returns ErrNotFound. The caller has
// read the row of the blob in tx, and called lookBefore. A blob that was removed and came again since then
// has its bytes, as each row of a new blob has.
func (s *core) linkExisting(ctx context.Context, tx *sql.Tx, repo string, d digest.Digest,
	size int64, by origin) error {
	if s.files != nil {
		if err := s.lookAt(ctx, d, size); err != nil {
			return err
		}
	}
	return s.linkBlob(ctx, tx, repo, d, by)
}

// Delete removes a blob from repo. *InUseError while a manifest of repo refers to it; ErrNotFound
// when it has no link there. Collection removes the bytes.
func (s *Blobs) Delete(ctx context.Context, repo string, d digest.Digest) error {
	if err := checkRepositoryAndDigest(repo, d); err != nil {
		return err
	}
	began := s.now()
	err := s.db.ShareFreeing(ctx, func(ctx context.Context, tx *sql.Tx) error {
		id, err := repositoryID(ctx, tx, repo)
		if errors.Is(err, ErrNotFound) {
			return &NotFoundError{Kind: "blob", Name: d.String()}
		}
		if err != nil {
			return err
		}
		linked, err := database.Exists(ctx, tx, neededLink, id, d)
		if err != nil {
			return fmt.Errorf("look for references to blob %s: %w", d, err)
		}
		if linked {
			return &InUseError{Digest: d, Repository: repo}
		}
		n, err := database.Affected(ctx, tx, `DELETE FROM repository_blobs WHERE repository = ? AND digest = ?`, id, d)
		if err == nil && n == 0 {
			return &NotFoundError{Kind: "blob", Name: d.String()}
		}
		if err != nil {
			return err
		}
		return s.guard.Blobs.Unexpect(ctx, tx, repo, began, d)
	})
	if err == nil {
		s.guard.Blobs.Unexpected(repo, began, d)
	}
	return err
}

// linkFunc writes the links of a blob, in the transaction that writes its row.
type linkFunc func(ctx context.Context, tx *sql.Tx) error

// placedAgain is how often a file is placed again that a collection may have removed.
const placedAgain = 3

// commitFile places the file of an upload durably, and then commits the row and the links of the
// blob: again when another daemon began to remove the blob meanwhile.
func (s *core) commitFile(ctx context.Context, u blobstore.Upload, d digest.Digest, link linkFunc) error {
	err := s.placeAndCommit(ctx, u, d, link)
	removed := errors.Is(err, leases.ErrRemoved)
	for again := 0; again < placedAgain && errors.Is(err, leases.ErrRemoved); again++ {
		err = s.placeAndCommit(ctx, u, d, link)
		if errors.Is(err, fs.ErrNotExist) { // its parts were made into the object that is gone
			break
		}
	}
	if removed && (errors.Is(err, leases.ErrRemoved) || errors.Is(err, fs.ErrNotExist)) {
		err = fmt.Errorf("%w; try again: %w", err, ErrUnavailable)
	}
	return err
}

func (s *core) placeAndCommit(ctx context.Context, u blobstore.Upload, d digest.Digest, link linkFunc) error {
	put, err := s.guard.Blobs.Put(ctx, d)
	if err != nil {
		return err
	}
	defer put.End()
	if placed, err := u.Place(ctx, d); err != nil {
		if placed != nil {
			err = errors.Join(err, s.undoPlace(ctx, placed, d))
		}
		return diskspace.Full(s.blobs.Root(), 0, err)
	}
	return s.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := put.Verify(ctx, tx); err != nil {
			return err
		}
		if _, err := s.insertBlob(ctx, tx, d, u.Size()); err != nil {
			return err
		}
		return link(ctx, tx)
	})
}

// insertBlob inserts the row of a blob and reports whether there was none.
func (s *core) insertBlob(ctx context.Context, tx *sql.Tx, d digest.Digest, size int64) (fresh bool, err error) {
	n, err := database.Affected(ctx, tx, `INSERT INTO blobs (digest, size, created) VALUES (?, ?, ?) ON CONFLICT (digest) DO NOTHING`, d, size, database.Nanos(s.now()))
	if err != nil {
		return false, fmt.Errorf("write row of blob %s: %w", d, err)
	}
	return n > 0, nil
}

// undoPlace removes a file that was placed and could not be synced, so that a full disk does not
// keep it until collection. It leaves the file of a concurrent upload of the same blob.
func (s *core) undoPlace(ctx context.Context, placed blobstore.Version, d digest.Digest) error {
	return s.guard.Blobs.UndoPlace(d, func() error { return s.blobs.Blob(d).RemoveIf(ctx, placed) })
}

// linkBlob makes an existing blob visible in a repository, as of now. The link of a push stays one.
func (s *core) linkBlob(ctx context.Context, tx *sql.Tx, repo string, d digest.Digest, by origin) error {
	repository, err := s.ensureRepository(ctx, tx, repo)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO repository_blobs (repository, digest, linked, pulled) VALUES (?, ?, ?, ?)
		ON CONFLICT (repository, digest) DO UPDATE SET linked = excluded.linked, pulled = min(repository_blobs.pulled, excluded.pulled)`, repository, d, database.Nanos(s.now()), by)
	if err == nil && by == byPush {
		err = s.guard.Blobs.Expect(ctx, tx, repo, d)
	}
	if err != nil {
		return fmt.Errorf("link blob %s: %w", d, err)
	}
	return nil
}

// ensureRepository returns the id of a repository, and creates it if it does not exist.
func (s *core) ensureRepository(ctx context.Context, tx *sql.Tx, name string) (int64, error) {
	id, err := repositoryID(ctx, tx, name)
	if !errors.Is(err, ErrNotFound) {
		return id, err
	}
	err = tx.QueryRowContext(ctx, `INSERT INTO repositories (name, created) VALUES (?, ?) RETURNING id`,
		name, database.Nanos(s.now())).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("make repository %s: %w", name, err)
	}
	return id, nil
}

func repositoryID(ctx context.Context, q database.Querier, name string) (int64, error) {
	var id int64
	err := q.QueryRowContext(ctx, `SELECT id FROM repositories WHERE name = ?`, name).Scan(&id)
	return id, orNotFound(err, "repository", name)
}

// maxFound bounds the repositories that Find looks at. A blob of more is part of every image, and
// small.
const maxFound = 100

// Find returns a repository with a blob that may accepts, or ErrNotFound. Mount decides whether the
// blob exists.
func (s *Blobs) Find(ctx context.Context, d digest.Digest, may func(repo string) bool) (string, error) {
	if err := image.CheckDigest(d); err != nil {
		return "", err
	}
	rows, err := s.db.Reader().QueryContext(ctx, `SELECT r.name FROM repository_blobs b JOIN repositories r ON r.id = b.repository
		WHERE b.digest = ? LIMIT ?`, d, maxFound)
	if err != nil {
		return "", fmt.Errorf("find blob %s: %w", d, err)
	}
	defer rows.Close()
	for rows.Next() {
		var repo string
		if err := rows.Scan(&repo); err != nil {
			return "", fmt.Errorf("find blob %s: %w", d, err)
		}
		if may(repo) {
			return repo, nil
		}
	}
	if err := rows.Err(); err != nil {
		return "", fmt.Errorf("find blob %s: %w", d, err)
	}
	return "", &NotFoundError{Kind: "blob", Name: d.String()}
}
