package store

import (
	"cmp"
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
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// spaceEvery is how many bytes are written between two checks of the free space.
const spaceEvery = 1 << 20

// Upload is a blob that is being written. It has its session alone, until Close, Commit or Cancel;
// Close keeps the session for Resume, the others end it. Bytes written before Close survive a
// restart.
type Upload struct {
	store   *core
	user    string      // of the session, for the bounds on sessions
	by      origin      // of the link that it gets
	repo    string      // that it is linked in; "" for that of its session
	session bool        // it can be resumed; that of a run cannot
	partial bool        // it is of a known blob, whose next upload may continue it, see PutRest
	want    int64       // total bytes, 0 if unknown
	arrived func(n int) // nil: there is no reader before the commit

	mu      sync.Mutex // guards the fields below
	bytes   blobstore.Upload
	begun   bool // a byte has come since it was opened
	counted bool // the session is, among those with files
	claimed bool // a row has it for this daemon, where there are several
	closed  bool
	checked int64 // the size at the last check of the space
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
	u.user = database.User(ctx)
	u.session = true
	return u, nil
}

// newUpload begins an upload of want bytes, 0 if unknown.
func (s *core) newUpload(repo string, want int64) (*Upload, error) {
	if err := s.blobs.CheckSize(want); err != nil {
		return nil, fmt.Errorf("begin upload: %w", err)
	}
	if err := s.checkNewFile(want); err != nil {
		return nil, fmt.Errorf("begin upload: %w", err)
	}
	bytes, err := s.blobs.NewUpload(repo, s.now().UTC())
	if err != nil {
		return nil, fmt.Errorf("begin upload: %w", err)
	}
	s.guard.Sessions.Own(bytes.ID())
	return &Upload{store: s, bytes: bytes, want: want}, nil
}

// begin counts the session at its first byte: an empty one costs nothing.
func (u *Upload) begin() error {
	if u.begun {
		return nil
	}
	if u.session && !u.counted {
		admit := func() error { return u.store.admitSession(u.ID(), u.user) }
		if u.store.guard.shared != nil {
			admit = u.admitShared
		}
		if err := admit(); err != nil {
			return fmt.Errorf("begin upload: %w", err)
		}
	}
	u.begun = true
	return nil
}

// Resume opens a session of repo as its last Close left it, also after a restart. It waits a little
// for another request that has the session, then fails with *BusyError.
func (s *Uploads) Resume(ctx context.Context, repo, id string) (*Upload, error) {
	if !blobstore.IsUploadID(id) {
		return nil, &NotFoundError{Kind: "upload", Name: image.Quote(id)}
	}
	if s.guard.shared != nil {
		return s.resumeShared(ctx, repo, id)
	}
	if err := s.guard.Sessions.Take(ctx, id, s.patience); err != nil {
		return nil, err
	}
	if u, ok := s.emptySession(repo, id); ok {
		return u, nil
	}
	bytes, err := s.blobs.ResumeUpload(ctx, repo, id)
	if err != nil {
		s.guard.Sessions.Release(id)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &NotFoundError{Kind: "upload", Name: id}
		}
		return nil, fmt.Errorf("resume upload %s: %w", id, err)
	}
	s.sessions.used(id, s.now())
	return &Upload{store: s.core, user: database.User(ctx), session: true, bytes: bytes, checked: bytes.Size()}, nil
}

// ID returns the id of the session.
func (u *Upload) ID() string { return u.bytes.ID() }

// Size returns the number of bytes so far.
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
	return n, diskspace.Full(u.store.blobs.Root(), max(0, u.want-u.bytes.Size()), err)
}

// checkSpace returns a *FullError when there is no space for the rest.
func (u *Upload) checkSpace() error {
	u.checked = u.bytes.Size()
	need := max(spaceEvery, u.want-u.checked)
	if err := u.store.checkSpace(need); err != nil || u.arrived == nil {
		return err
	}
	return u.store.checkSpool(need)
}

// ReadFrom appends all of r. When it fails, the bytes before stay in the upload.
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

// fill reads until the buffer is full or r has an error. A Read of the network returns a record of
// TLS at most: writes as small as that, and aligned to no page, were measured to make reads of the
// file a tenth slower.
func fill(buffer []byte, r io.Reader) (n int, err error) {
	for n < len(buffer) && err == nil {
		var m int
		m, err = r.Read(buffer[n:])
		n += m
	}
	return n, err
}

// Close releases the session, to be resumed. After Commit and Cancel it does nothing.
func (u *Upload) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.closed:
		return nil
	case !u.session:
		return u.discard()
	case !u.owned():
		return errors.Join(u.errTaken("save"), u.end(u.bytes.Close()))
	case u.bytes.Size() == 0 && u.store.guard.shared != nil:
		return errors.Join(u.beginShared(), u.end(u.bytes.Close()))
	case u.bytes.Size() == 0:
		// In memory before the release, or another request finds neither.
		u.store.sessions.remember(u.ID(), session{user: u.user, bytes: u.bytes, since: u.store.now()})
		return errors.Join(u.bytes.Forget(), u.end(u.bytes.Close()))
	case !u.begun: // its files have not changed
		return u.end(u.bytes.Close())
	}
	err := u.bytes.Save(time.Time{})
	if err != nil {
		err = diskspace.Full(u.store.blobs.Root(), 0, fmt.Errorf("save upload %s: %w", u.ID(), err))
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
	if !u.owned() {
		return u.end(u.bytes.Close()) // what the storage has is another daemon's
	}
	err := u.bytes.Discard()
	if u.store.guard.shared != nil {
		u.store.guard.shared.Sessions.End(u.ID())
	}
	u.store.sessions.ended(u.ID())
	return u.end(err)
}

// Cancel ends the session and discards its bytes.
func (u *Upload) Cancel(context.Context) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil
	}
	return u.discard()
}

// Commit makes a blob of the upload, visible in its repository, and returns its size. *DigestError
// when the bytes have another digest. It ends the session also when it fails: after a failed fsync
// it is unknown which bytes are on disk, and after a failed transaction the file is in place. Only
// a malformed digest leaves the session as it was.
func (u *Upload) Commit(ctx context.Context, d digest.Digest) (int64, error) {
	repo := cmp.Or(u.repo, u.bytes.Repository())
	commit := func() error {
		return u.commitTo(ctx, d, func(ctx context.Context, tx *sql.Tx) error {
			return u.store.linkBlob(ctx, tx, repo, d, u.by)
		})
	}
	err := u.store.expecting(repo, d, u.by, commit)
	if err == nil && u.by == byPull {
		u.store.arrivals.add(u.Size())
	}
	return u.Size(), err
}

// commitTo commits the upload, with the links that link writes in the same transaction.
func (u *Upload) commitTo(ctx context.Context, d digest.Digest, link linkFunc) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return fmt.Errorf("commit upload %s: %w", u.ID(), os.ErrClosed)
	}
	if err := image.CheckDigest(d); err != nil {
		return err
	}
	if !u.owned() {
		return errors.Join(u.errTaken("commit"), u.end(u.bytes.Close()))
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
	ctx = context.WithoutCancel(ctx) // a client that went away would have to send all of it again
	kept := false
	if small, ok := u.bytes.Small(); ok {
		kept, err = u.store.commitSmall(ctx, small, d, link)
	}
	if !kept && err == nil {
		err = u.store.commitFile(ctx, u.bytes, d, link)
	}
	if err != nil {
		return fmt.Errorf("commit blob %s: %w", d, err)
	}
	return nil
}
