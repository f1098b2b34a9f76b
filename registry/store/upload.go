package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// spaceEvery is how many bytes are written between two looks at the free space.
const spaceEvery = 1 << 20

// Upload is a blob that is being written. An Upload has its session alone, until Close, Commit or Cancel; Close keeps the
// session for ResumeUpload, the others end it. What was acknowledged before Close survives a restart.
type Upload struct {
	store   *core
	user    string      // of the session, for the bounds on sessions
	by      origin      // of the link that it gets
	session bool        // it can be resumed; a run's blob cannot, since a run starts a blob again
	want    int64       // how many bytes are to come in all, 0 when that is not known
	arrived func(n int) // nil: nothing reads what is written before it is committed

	mu      sync.Mutex // guards what follows; an Upload used by two goroutines stays in order
	bytes   *blobfile.Upload
	begun   bool // a byte has come since it was opened, and the session is counted
	closed  bool
	checked int64 // the size at which there was last seen to be space
}

// New begins an upload to repo.
func (s *Uploads) New(ctx context.Context, repo string) (*Upload, error) {
	if err := image.CheckRepository(repo); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	u, err := s.newUpload(repo, 0)
	if err != nil {
		return nil, err
	}
	u.user = sqlite.User(ctx)
	u.session = true
	return u, nil
}

// newUpload begins an upload of want bytes, 0 if that is not known.
func (s *core) newUpload(repo string, want int64) (*Upload, error) {
	if err := s.checkNewFile(want); err != nil {
		return nil, fmt.Errorf("begin upload: %w", err)
	}
	bytes, err := s.files.NewUpload(repo, s.now().UTC())
	if err != nil {
		return nil, fmt.Errorf("begin upload: %w", err)
	}
	s.guard.Sessions.TryTake(bytes.ID()) // no other request knows the id yet
	return &Upload{store: s, bytes: bytes, want: want}, nil
}

// begin counts the session, which it does with the first byte: one that has received nothing costs nothing.
func (u *Upload) begin() error {
	if u.begun {
		return nil
	}
	if u.session {
		if err := u.store.holdSession(u.ID(), u.user); err != nil {
			return fmt.Errorf("begin upload: %w", err)
		}
	}
	u.begun = true
	return nil
}

// Resume opens a session of repo where its last Close left it, also after a restart. While another request has the
// session it waits a little, then fails with *BusyError.
func (s *Uploads) Resume(ctx context.Context, repo, id string) (*Upload, error) {
	if !blobfile.IsUploadID(id) {
		return nil, &NotFoundError{Kind: "upload", Name: image.Quote(id)}
	}
	if err := s.guard.Sessions.Take(ctx, id, s.patience); err != nil {
		return nil, err
	}
	if u, ok := s.emptySession(repo, id); ok {
		return u, nil
	}
	bytes, err := s.files.ResumeUpload(repo, id)
	if err != nil {
		s.guard.Sessions.Release(id)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &NotFoundError{Kind: "upload", Name: id}
		}
		return nil, fmt.Errorf("resume upload %s: %w", id, err)
	}
	s.sessions.used(id, s.now())
	return &Upload{store: s.core, user: sqlite.User(ctx), session: true, bytes: bytes, checked: bytes.Size()}, nil
}

// ID names the session.
func (u *Upload) ID() string { return u.bytes.ID() }

// Size is how many bytes have been written.
func (u *Upload) Size() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.bytes.Size()
}

// Write appends p. *FullError if the disk is full.
func (u *Upload) Write(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.write(p)
}

func (u *Upload) write(p []byte) (int, error) {
	if u.closed {
		return 0, fmt.Errorf("write upload %s: %w", u.ID(), os.ErrClosed)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if err := u.begin(); err != nil {
		return 0, err
	}
	if u.bytes.Size()+int64(len(p)) > u.checked+spaceEvery {
		if err := u.checkSpace(); err != nil {
			return 0, err
		}
	}
	n, err := u.bytes.Write(p)
	if u.arrived != nil {
		u.arrived(n)
	}
	return n, diskspace.Full(u.store.files.Root(), max(0, u.want-u.bytes.Size()), err)
}

// checkSpace fails with a *FullError when there is no space for the rest.
func (u *Upload) checkSpace() error {
	u.checked = u.bytes.Size()
	return u.store.checkSpace(max(spaceEvery, u.want-u.checked))
}

// ReadFrom appends all of r. When it fails, what was read before stays in the upload.
func (u *Upload) ReadFrom(r io.Reader) (int64, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var total int64
	buffer := make([]byte, throttle.Buffer)
	for {
		n, readErr := fill(buffer, r)
		written, err := u.write(buffer[:n])
		total += int64(written)
		if err != nil {
			return total, err
		}
		if errors.Is(readErr, io.EOF) {
			return total, nil
		}
		if readErr != nil {
			return total, readErr
		}
	}
}

// fill reads until the buffer is full or r has an error. A Read of the network gives a record of TLS, or a part of one:
// writes as small as that, and aligned to no page, were measured to cost reads of the file a tenth.
func fill(buffer []byte, r io.Reader) (n int, err error) {
	for n < len(buffer) && err == nil {
		var m int
		m, err = r.Read(buffer[n:])
		n += m
	}
	return n, err
}

// Close gives the session back, to be resumed. After Commit and Cancel it does nothing.
func (u *Upload) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.closed:
		return nil
	case !u.session:
		return u.discard()
	case u.bytes.Size() == 0:
		// In memory before the session is released, or another request finds neither.
		u.store.sessions.remember(u.ID(), session{user: u.user, bytes: u.bytes, since: u.store.now()})
		return errors.Join(u.bytes.Forget(), u.end(u.bytes.Close()))
	case !u.begun: // what is on disk is as it was
		return u.end(u.bytes.Close())
	}
	err := u.bytes.Save(time.Time{})
	if err != nil {
		err = diskspace.Full(u.store.files.Root(), 0, fmt.Errorf("save upload %s: %w", u.ID(), err))
	}
	return errors.Join(err, u.end(u.bytes.Close()))
}

// end releases the session.
func (u *Upload) end(err error) error {
	u.closed = true
	u.store.guard.Sessions.Release(u.ID())
	return err
}

// discard removes the session and releases it.
func (u *Upload) discard() error {
	err := u.bytes.Discard()
	u.store.sessions.ended(u.ID())
	return u.end(err)
}

// Cancel ends the session and forgets its bytes.
func (u *Upload) Cancel(context.Context) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil
	}
	return u.discard()
}

// Commit makes a blob of the upload, visible in its repository, and returns its size. A digest that the
// bytes do not have is a *DigestError. It ends the session whether it succeeds or not: after a failed
// fsync nothing tells which bytes are on disk, and after a failed transaction the file is in place
// already. Only a malformed digest leaves the session as it was.
func (u *Upload) Commit(ctx context.Context, d digest.Digest) (int64, error) {
	err := u.commitTo(ctx, d, func(ctx context.Context, tx *sql.Tx) error {
		id, err := u.store.ensureRepository(ctx, tx, u.bytes.Repository())
		if err != nil {
			return err
		}
		if u.by == byPush {
			u.store.guard.Blobs.Expect(u.bytes.Repository(), d)
		}
		return u.store.linkBlob(ctx, tx, id, d, u.by)
	})
	if err == nil && u.by == byPull {
		u.store.arrivals.add(u.Size())
	}
	return u.Size(), err
}

// commitTo commits, and in the same transaction lets link say who has the blob.
func (u *Upload) commitTo(ctx context.Context, d digest.Digest, link linkFunc) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return fmt.Errorf("commit upload %s: %w", u.ID(), os.ErrClosed)
	}
	if err := image.CheckDigest(d); err != nil {
		return err
	}
	err := u.verified(ctx, d, link)
	if err := u.discard(); err != nil { // the blob is committed: collection removes what is left
		u.store.log.Warn("could not clear away an upload", "upload", u.ID(), "error", err)
	}
	return err
}

// verified commits the upload if it has the digest.
func (u *Upload) verified(ctx context.Context, d digest.Digest, link linkFunc) error {
	if err := u.store.checkSpace(0); err != nil {
		return fmt.Errorf("commit blob %s: %w", d, err)
	}
	got, err := u.bytes.Digest(ctx, d.Algorithm())
	if err != nil {
		return fmt.Errorf("hash upload %s: %w", u.ID(), err)
	}
	if got != d {
		return &DigestError{Want: d, Got: got}
	}
	if err := u.keep(ctx, d, link); err != nil {
		return fmt.Errorf("commit blob %s: %w", d, err)
	}
	return nil
}

func (u *Upload) keep(ctx context.Context, d digest.Digest, link linkFunc) error {
	if small, ok := u.bytes.Small(); ok {
		if kept, err := u.store.keepSmall(ctx, small, d, link); kept || err != nil {
			return err
		}
	}
	return u.store.keep(ctx, u.bytes, d, link)
}
