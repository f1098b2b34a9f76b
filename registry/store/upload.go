package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/image"
)

// copyBuffer is what a copy into the store uses. 16 to 64 KiB were measured to be equally good; 1 MiB doubled the CPU spent.
const copyBuffer = 32 << 10

// writeBehind is how many bytes are written to a file before the disk is told to begin with them. Left to the
// sync at the end, the disk idles while the network brings a blob, and the client waits for the disk afterwards.
const writeBehind = 8 << 20

// Upload is a blob that is being written. Whoever has it has its session alone, until Close, Commit or
// Cancel; Close keeps the session for ResumeUpload, the others end it.
//
// A session is two files: the bytes, and beside them what is needed to go on after a restart. Close
// writes the second after the bytes are on disk, so what a client was told is held is held. The bytes of a small blob
// that come at once are in memory until they are committed, and have no file.
type Upload struct {
	store *Store
	id    string

	user    string     // of the session, for the bounds on sessions
	mu      sync.Mutex // guards what follows; an Upload used by two goroutines stays in order
	file    *os.File   // nil while all bytes are in small, and once it is closed
	small   []byte     // no more than smallBlob
	begun   bool       // a first byte has come, and is counted as a session's
	closed  bool
	saved   bool // there is a state file
	state   uploadState
	hash    hash.Hash // sha256 of all bytes so far
	dirty   bool      // written to since the state was
	by      origin    // of the link that it gets
	session bool      // it has a state file; a run's blob has none, since a run starts a blob again
	want    int64     // how many bytes are to come in all, when that is known
	checked int64     // the size at which there was last seen to be space
	ahead   int64     // the size up to which the disk was told to begin, see writeBehind
}

// uploadState is the content of a session's second file.
type uploadState struct {
	Repository string    `json:"repository"`
	Started    time.Time `json:"started"`
	Offset     int64     `json:"offset"`
	Hash       []byte    `json:"hash"`
}

// NewUpload begins an upload to repo.
func (s *Store) NewUpload(ctx context.Context, repo string) (*Upload, error) {
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
	u.user = userFrom(ctx)
	u.session = true
	u.dirty = true // so that an empty session, too, survives its Close
	return u, nil
}

// newUpload begins an upload of want bytes, 0 if nobody knows.
func (s *Store) newUpload(repo string, want int64) (*Upload, error) {
	if err := s.checkNewFile(want); err != nil {
		return nil, fmt.Errorf("begin upload: %w", err)
	}
	random, err := uuid.NewRandom()
	if err != nil {
		return nil, fmt.Errorf("begin upload: %w", err)
	}
	id := random.String()
	s.guard.tryTake(id) // nobody else knows the id yet
	return &Upload{
		store: s, id: id, hash: newHash(), want: want,
		state: uploadState{Repository: repo, Started: s.now().UTC()},
	}, nil
}

func newHash() hash.Hash { return sha256.New() }

// begin counts the session, which it does with the first byte: one that has received nothing costs nothing.
func (u *Upload) begin() error {
	if u.begun {
		return nil
	}
	if u.session {
		if err := u.store.holdSession(u.id, u.user); err != nil {
			return fmt.Errorf("begin upload: %w", err)
		}
	}
	u.begun = true
	return nil
}

// append appends p to what there is, in memory or in the file.
func (u *Upload) append(p []byte) (int, error) {
	if u.file == nil && len(u.small)+len(p) <= smallBlob {
		u.small = append(u.small, p...)
		return len(p), nil
	}
	if err := u.spill(); err != nil {
		return 0, err
	}
	return u.file.Write(p)
}

// spill makes the file, unless there is one, and writes to it what is in memory.
func (u *Upload) spill() error {
	if u.file != nil {
		return nil
	}
	path := u.store.files.upload(u.id)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("begin upload: %w", err)
	}
	if _, err := f.Write(u.small); err != nil {
		return errors.Join(fmt.Errorf("write upload: %w", err), f.Close(), removeIfThere(path))
	}
	u.file, u.small = f, nil
	return nil
}

// ResumeUpload takes up a session of repo where its last Close left it, also after a restart. While
// another request has the session it waits a little, then fails with *BusyError.
func (s *Store) ResumeUpload(ctx context.Context, repo, id string) (*Upload, error) {
	if !isID(id) {
		return nil, &NotFoundError{Kind: "upload", Name: image.Quote(id)}
	}
	if err := s.guard.take(ctx, id, s.patience); err != nil {
		return nil, err
	}
	if u, ok := s.emptySession(repo, id); ok {
		return u, nil
	}
	u, err := s.resume(repo, id)
	if err != nil {
		s.guard.release(id)
		return nil, err
	}
	u.user = userFrom(ctx)
	return u, nil
}

func (s *Store) resume(repo, id string) (_ *Upload, err error) {
	unknown := &NotFoundError{Kind: "upload", Name: id}
	content, err := os.ReadFile(s.files.uploadState(id))
	if errors.Is(err, os.ErrNotExist) {
		return nil, unknown
	}
	if err != nil {
		return nil, fmt.Errorf("resume upload %s: %w", id, err)
	}
	u := &Upload{store: s, id: id, hash: newHash(), session: true, saved: true}
	if err := json.Unmarshal(content, &u.state); err != nil || u.state.Repository != repo {
		return nil, unknown
	}
	s.sessions.used(id, s.now())
	u.checked, u.ahead = u.state.Offset, u.state.Offset
	if err := u.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(u.state.Hash); err != nil {
		return nil, unknown
	}
	u.file, err = os.OpenFile(s.files.upload(id), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		if u.state.Offset == 0 { // its file comes with the first byte
			return u, nil
		}
		return nil, unknown
	}
	if err != nil {
		return nil, fmt.Errorf("resume upload %s: %w", id, err)
	}
	if err := u.rewind(); err != nil {
		return nil, errors.Join(err, u.file.Close())
	}
	return u, nil
}

// rewind puts the file to the offset that the state tells of: what is beyond was never acknowledged, and
// is not in the hash.
func (u *Upload) rewind() error {
	info, err := u.file.Stat()
	if err != nil {
		return fmt.Errorf("resume upload %s: %w", u.id, err)
	}
	if info.Size() < u.state.Offset {
		return &NotFoundError{Kind: "upload", Name: u.id}
	}
	if err := u.file.Truncate(u.state.Offset); err != nil {
		return fmt.Errorf("resume upload %s: %w", u.id, err)
	}
	if _, err := u.file.Seek(u.state.Offset, io.SeekStart); err != nil {
		return fmt.Errorf("resume upload %s: %w", u.id, err)
	}
	return nil
}

// ID names the session.
func (u *Upload) ID() string { return u.id }

// Size is how many bytes have been written.
func (u *Upload) Size() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.state.Offset
}

// StartedAt is when the session began.
func (u *Upload) StartedAt() time.Time { return u.state.Started }

// Write appends p. *FullError when there is no space.
func (u *Upload) Write(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.write(p)
}

func (u *Upload) write(p []byte) (int, error) {
	if u.closed {
		return 0, fmt.Errorf("write upload %s: %w", u.id, os.ErrClosed)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if err := u.begin(); err != nil {
		return 0, err
	}
	if u.state.Offset+int64(len(p)) > u.checked+spaceEvery {
		if err := u.checkSpace(); err != nil {
			return 0, err
		}
	}
	n, err := u.append(p)
	u.hash.Write(p[:n])
	u.state.Offset += int64(n)
	u.dirty = u.dirty || n > 0
	if err != nil {
		return n, full(u.store.files.root, max(0, u.want-u.state.Offset), fmt.Errorf("write upload: %w", err))
	}
	if written := u.state.Offset - u.ahead; written >= writeBehind {
		// Only a hint: whatever goes wrong, the sync at the end finds out.
		_ = unix.SyncFileRange(int(u.file.Fd()), u.ahead, written, unix.SYNC_FILE_RANGE_WRITE)
		u.ahead = u.state.Offset
	}
	return n, nil
}

// checkSpace fails with a *FullError when there is no space for what is to come.
func (u *Upload) checkSpace() error {
	u.checked = u.state.Offset
	return u.store.checkSpace(max(spaceEvery, u.want-u.state.Offset))
}

// ReadFrom appends all of r. When it fails, what was read before stays in the upload.
func (u *Upload) ReadFrom(r io.Reader) (int64, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var total int64
	buffer := make([]byte, copyBuffer)
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
	if u.closed {
		return nil
	}
	if !u.session {
		return u.discard()
	}
	if u.state.Offset == 0 {
		// In memory before the session is let go of, or another request finds neither.
		u.store.sessions.remember(u.id, session{user: u.user, state: u.state, since: u.store.now()})
		return errors.Join(u.removeState(), u.end())
	}
	err := u.save()
	return errors.Join(err, u.end())
}

// save makes what was written so far durable.
func (u *Upload) save() error {
	if !u.dirty {
		return nil
	}
	var err error
	if u.state.Hash, err = u.hash.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
		return fmt.Errorf("save upload %s: %w", u.id, err)
	}
	content, err := json.Marshal(u.state)
	if err != nil {
		return fmt.Errorf("save upload %s: %w", u.id, err)
	}
	if err := u.saveState(content); err != nil {
		return full(u.store.files.root, 0, fmt.Errorf("save upload %s: %w", u.id, err))
	}
	u.dirty = false
	return nil
}

// saveState writes the session's second file, after its bytes are on disk. A session that has received nothing,
// which is how every push begins, is not synced: a power cut that takes it has taken nothing.
func (u *Upload) saveState(content []byte) error {
	path := u.store.files.uploadState(u.id)
	u.saved = true // or a part of it is
	if u.state.Offset == 0 {
		return os.WriteFile(path, content, 0o600)
	}
	if err := u.spill(); err != nil {
		return err
	}
	if err := unix.Fdatasync(int(u.file.Fd())); err != nil {
		return err
	}
	return writeFile(path, content)
}

func (u *Upload) removeState() error {
	if !u.saved {
		return nil
	}
	return removeIfThere(u.store.files.uploadState(u.id))
}

// end closes the file and lets go of the session.
func (u *Upload) end() error {
	var err error
	if u.file != nil {
		err = u.file.Close()
	}
	u.file, u.small, u.closed = nil, nil, true
	u.store.guard.release(u.id)
	return err
}

// discard removes the session and lets go of it.
func (u *Upload) discard() error {
	// The state first: without it the session is unknown, whatever else is left.
	err := u.removeState()
	if u.file != nil {
		err = errors.Join(err, removeIfThere(u.store.files.upload(u.id)))
	}
	u.store.sessions.ended(u.id)
	return errors.Join(err, u.end())
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
		id, err := u.store.ensureRepository(ctx, tx, u.state.Repository)
		if err != nil {
			return err
		}
		if u.by == byPush {
			u.store.guard.await(u.state.Repository, d)
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
		return fmt.Errorf("commit upload %s: %w", u.id, os.ErrClosed)
	}
	if err := image.CheckDigest(d); err != nil {
		return err
	}
	err := u.place(ctx, d, link)
	if err := u.discard(); err != nil { // not the caller's worry: collection takes what is left over
		u.store.log.Warn("could not clear away an upload", "upload", u.id, "error", err)
	}
	return err
}

func (u *Upload) place(ctx context.Context, d digest.Digest, link linkFunc) error {
	if err := u.store.checkSpace(0); err != nil {
		return fmt.Errorf("commit blob %s: %w", d, err)
	}
	got, err := u.digest(ctx, d.Algorithm())
	if err != nil {
		return err
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
	if u.file == nil {
		if kept, err := u.store.keepSmall(ctx, u.small, d, link); kept || err != nil {
			return err
		}
		if err := u.spill(); err != nil {
			return full(u.store.files.root, 0, err)
		}
	}
	return u.store.keep(ctx, u.file, d, u.state.Offset, link)
}

// digest hashes what was written. sha256 was hashed on the way; sha512, which is rare, reads the file again.
func (u *Upload) digest(ctx context.Context, a digest.Algorithm) (digest.Digest, error) {
	if a == digest.SHA256 {
		return digest.NewDigest(a, u.hash), nil
	}
	if u.file == nil {
		return a.FromBytes(u.small), nil
	}
	h := a.Hash()
	source := readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return u.file.Read(p)
	})
	if _, err := u.file.Seek(0, io.SeekStart); err != nil {
		return "", fmt.Errorf("hash upload %s: %w", u.id, err)
	}
	if _, err := io.CopyBuffer(h, source, make([]byte, copyBuffer)); err != nil {
		return "", fmt.Errorf("hash upload %s: %w", u.id, err)
	}
	return digest.NewDigest(a, h), nil
}

// readerFunc is a function that reads.
type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
