package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// partialFrom is the size of the smallest blob of which a part is kept when its upload breaks off.
const partialFrom = 1 << 20

// Partial returns how many bytes of some blobs are here, left by uploads of runs that broke off, and
// leaves out those without any. They belong to no repository: only PutRest can use them, and
// collection removes them when they are as old as an abandoned upload.
func (s *Runs) Partial(ctx context.Context, blobs []digest.Digest) map[digest.Digest]int64 {
	var sizes map[digest.Digest]int64
	for _, d := range blobs {
		if size := s.blobs.PartialSize(ctx, d); size > 0 {
			if sizes == nil {
				sizes = map[digest.Digest]int64{}
			}
			sizes[d] = size
		}
	}
	return sizes
}

// PutBlob reads a blob to its end and stages it. *DigestError or *InvalidError when its digest or
// size differs from desc; *FullError. Content that is an io.Seeker is read from where the store has
// it, see Partial.
func (r *Run) PutBlob(ctx context.Context, repo string, desc ocispec.Descriptor, content io.Reader) error {
	var offset int64
	if s, ok := content.(io.Seeker); ok && desc.Size >= partialFrom {
		size := r.store.blobs.PartialSize(ctx, desc.Digest)
		if size > 0 && size <= desc.Size && !r.store.guard.Sessions.InUse(ctx, blobstore.PartialID(desc.Digest)) {
			if _, err := s.Seek(size, io.SeekStart); err != nil {
				return fmt.Errorf("continue blob %s at byte %d: %w", desc.Digest, size, err)
			}
			offset = size
		}
	}
	return r.PutRest(ctx, repo, desc, offset, content)
}

// PutRest is PutBlob for a blob of which the store has the first offset bytes, and content the
// rest. *PartialError if it does not have them any more. After a *DigestError they are gone: they
// may have been others.
//
// What came of a large blob is kept when reading content fails, for another run as well.
func (r *Run) PutRest(ctx context.Context, repo string, desc ocispec.Descriptor, offset int64, content io.Reader) error {
	if err := checkRepositoryAndDigest(repo, desc.Digest); err != nil {
		return err
	}
	leave, err := r.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	u, err := r.store.openPartial(ctx, repo, desc, offset)
	if err != nil {
		return err
	}
	brokeOff, err := r.receive(ctx, u, desc, content)
	switch {
	case err == nil:
		err = u.commitTo(ctx, desc.Digest, func(ctx context.Context, tx *sql.Tx) error {
			if err := r.touch(ctx, tx); err != nil {
				return err
			}
			return r.pin(ctx, tx, repo, desc.Digest)
		})
	case brokeOff:
		u.leave()
	}
	return errors.Join(err, u.Close()) // which discards an upload without a commit
}

// enter keeps an open run from collection until leave is called: a large blob over a slow line may
// outlast the TTL of a run.
func (r *Run) enter(ctx context.Context) (leave func(), err error) {
	r.store.guard.Runs.Enter(r.id)
	leave = func() { r.store.guard.Runs.Leave(r.id) }
	if err := r.share(ctx, func(context.Context, *sql.Tx) error { return nil }); err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

// Written makes the first n bytes of a large blob safe that another process of this host has written
// into a file of the store, and returns the name of the file; with 0 that is a new one. The process
// goes on at byte n. PutRest, with the size as its offset, ends the blob, and hashes what is not safe
// yet. *BusyError while something else puts the blob.
func (r *Run) Written(ctx context.Context, desc ocispec.Descriptor, n int64) (file string, err error) {
	if err := image.CheckDigest(desc.Digest); err != nil {
		return "", err
	}
	if n < 0 || n > desc.Size || desc.Size < partialFrom {
		return "", &InvalidError{What: "blob", Reason: fmt.Sprintf("%s has %d bytes, of which %d cannot be in a file", desc.Digest, desc.Size, n)}
	}
	if r.store.files == nil { // the process sends the blob instead
		return "", &PartialError{desc.Digest, n}
	}
	leave, err := r.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	id := blobstore.PartialID(desc.Digest)
	if err := r.store.guard.Sessions.Take(ctx, id, r.store.patience); err != nil {
		return "", err
	}
	u, err := r.store.takenPartial(ctx, desc, n)
	if err != nil {
		r.store.guard.Sessions.Release(id)
		return "", err
	}
	if file, err = u.bytes.Path(); err == nil {
		err = u.bytes.Save(time.Time{})
	}
	if err != nil {
		err = diskspace.Full(r.store.blobs.Root(), desc.Size-n, fmt.Errorf("keep the beginning of blob %s: %w", desc.Digest, err))
		return "", errors.Join(err, u.Close())
	}
	return file, u.end(u.bytes.Close())
}

// openPartial opens the upload of a blob after its first offset bytes. While another request has
// the one that may be continued, it begins one that cannot.
func (s *core) openPartial(ctx context.Context, repo string, desc ocispec.Descriptor, offset int64) (*Upload, error) {
	if offset < 0 || offset > desc.Size {
		return nil, &InvalidError{What: "blob", Reason: fmt.Sprintf("%s has %d bytes and cannot go on at byte %d", desc.Digest, desc.Size, offset)}
	}
	if err := s.blobs.CheckSize(desc.Size); err != nil {
		return nil, fmt.Errorf("begin upload: %w", err)
	}
	id := blobstore.PartialID(desc.Digest)
	switch {
	case offset > 0:
		// The request whose connection broke may still be saving what it got.
		if err := s.guard.Sessions.Take(ctx, id, s.patience); err != nil {
			return nil, err
		}
	case desc.Size < partialFrom:
		return s.newUpload(repo, desc.Size)
	default:
		if taken, err := s.guard.Sessions.TryTake(ctx, id); err != nil {
			return nil, err
		} else if !taken {
			return s.newUpload(repo, desc.Size)
		}
	}
	u, err := s.takenPartial(ctx, desc, offset)
	if err != nil {
		s.guard.Sessions.Release(id)
		return nil, err
	}
	return u, nil
}

// takenPartial is openPartial for the upload of which this request has the session.
func (s *core) takenPartial(ctx context.Context, desc ocispec.Descriptor, offset int64) (*Upload, error) {
	if err := s.checkNewFile(desc.Size - offset); err != nil {
		return nil, fmt.Errorf("begin upload: %w", err)
	}
	u := &Upload{store: s, want: desc.Size, partial: true, claimed: s.guard.shared != nil, begun: offset > 0, checked: offset}
	var err error
	if offset == 0 {
		u.bytes, err = s.blobs.NewPartial(ctx, desc.Digest, s.now().UTC())
	} else {
		u.bytes, err = s.blobs.ResumePartial(ctx, desc.Digest, offset)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &PartialError{desc.Digest, offset}
	case err != nil:
		return nil, fmt.Errorf("begin upload of blob %s: %w", desc.Digest, err)
	}
	return u, nil
}

// receive writes content to the upload. brokeOff reports that content failed, and what came before
// is good.
func (r *Run) receive(ctx context.Context, u *Upload, desc ocispec.Descriptor, content io.Reader) (brokeOff bool, err error) {
	source := throttle.ReaderFunc(func(p []byte) (n int, err error) {
		if err = ctx.Err(); err == nil {
			n, err = content.Read(p)
		}
		brokeOff = err != nil && !errors.Is(err, io.EOF)
		return n, err
	})
	// One byte more than allowed, so that an endless source is noticed.
	if _, err := u.ReadFrom(io.LimitReader(source, desc.Size-u.Size()+1)); err != nil {
		return brokeOff, fmt.Errorf("receive blob %s: %w", desc.Digest, err)
	}
	switch got := u.Size(); {
	case got > desc.Size:
		return false, &InvalidError{What: "blob", Reason: fmt.Sprintf("%s has more than the %d bytes of its descriptor", desc.Digest, desc.Size)}
	case got < desc.Size:
		return false, &InvalidError{What: "blob", Reason: fmt.Sprintf("%s ended after %d of the %d bytes of its descriptor", desc.Digest, got, desc.Size)}
	}
	return false, nil
}

// leave keeps what came of a blob for the next upload of it, where it can, and ends this one.
func (u *Upload) leave() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed || !u.partial || u.bytes.Size() <= blobstore.InMemory {
		return
	}
	if !u.owned() {
		return // Close leaves it to another daemon
	}
	if err := u.bytes.Save(time.Time{}); err != nil {
		u.store.log.Warn("could not keep what came of a blob", "upload", u.ID(), "error", err)
		return // Close discards it
	}
	if err := u.end(u.bytes.Close()); err != nil {
		u.store.log.Warn("could not close what came of a blob", "upload", u.ID(), "error", err)
	}
}
