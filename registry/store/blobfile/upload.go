package blobfile

import (
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// Upload is a blob that is being written. It is not safe for concurrent use. Save makes it
// resumable: it writes a second file beside the bytes, after these are on disk.
type Upload struct {
	dir   *Dir
	id    string
	state state
	hash  hash.Hash // sha256 of all bytes so far
	small []byte    // the bytes, no more than blobstore.InMemory, while there is no file
	file  *os.File
	disk  durable.Behind
	saved bool // the state file, or a part of it, exists
}

// state is the content of the state file.
type state struct {
	Repository string    `json:"repository"`
	Started    time.Time `json:"started"`
	Offset     int64     `json:"offset"`
	Hash       []byte    `json:"hash"`
}

// NewUpload begins an upload for a repository, without a file.
func (d *Dir) NewUpload(repo string, started time.Time) (*Upload, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, err
	}
	return &Upload{dir: d, id: id.String(), state: state{Repository: repo, Started: started},
		hash: digest.SHA256.Hash()}, nil
}

// ResumeUpload opens an upload of a repository as its last Save left it. fs.ErrNotExist when there
// is none, or not all of it.
func (d *Dir) ResumeUpload(repo, id string) (_ *Upload, err error) {
	content, err := os.ReadFile(d.uploadState(id))
	if err != nil {
		return nil, err
	}
	u := &Upload{dir: d, id: id, hash: digest.SHA256.Hash(), saved: true}
	if json.Unmarshal(content, &u.state) != nil || u.state.Repository != repo ||
		u.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(u.state.Hash) != nil {
		return nil, fs.ErrNotExist
	}
	u.disk.Told = u.state.Offset
	u.file, err = os.OpenFile(d.upload(id), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) && u.state.Offset == 0 {
		return u, nil
	}
	if err != nil {
		return nil, err
	}
	if err := u.rewind(); err != nil {
		return nil, errors.Join(err, u.file.Close())
	}
	return u, nil
}

// rewind cuts the file to the saved size: later bytes were never acknowledged, and are not in the
// hash.
func (u *Upload) rewind() error {
	info, err := u.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < u.state.Offset {
		return fs.ErrNotExist
	}
	if err := u.file.Truncate(u.state.Offset); err != nil {
		return err
	}
	_, err = u.file.Seek(u.state.Offset, io.SeekStart)
	return err
}

// ID returns the id of the upload.
func (u *Upload) ID() string { return u.id }

// Repository returns the repository of the upload.
func (u *Upload) Repository() string { return u.state.Repository }

// Started returns when the upload was begun.
func (u *Upload) Started() time.Time { return u.state.Started }

// Size returns the number of bytes so far.
func (u *Upload) Size() int64 { return u.state.Offset }

// Small returns the bytes while all of them are in memory.
func (u *Upload) Small() (body []byte, ok bool) { return u.small, u.file == nil }

// Write appends p.
func (u *Upload) Write(p []byte) (int, error) {
	n, err := u.append(p)
	u.hash.Write(p[:n])
	u.state.Offset += int64(n)
	if err != nil {
		return n, fmt.Errorf("write upload: %w", err)
	}
	if u.file != nil {
		u.disk.Wrote(u.file, u.state.Offset)
	}
	return n, nil
}

func (u *Upload) append(p []byte) (int, error) {
	if u.file == nil && len(u.small)+len(p) <= blobstore.InMemory {
		u.small = append(u.small, p...)
		return len(p), nil
	}
	if err := u.spill(); err != nil {
		return 0, err
	}
	return u.file.Write(p)
}

// spill creates the file, unless it exists, with the bytes in memory.
func (u *Upload) spill() error {
	if u.file != nil {
		return nil
	}
	path := u.dir.upload(u.id)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("begin upload: %w", err)
	}
	if _, err := f.Write(u.small); err != nil {
		return errors.Join(fmt.Errorf("write upload: %w", err), f.Close(), removeIfExists(path))
	}
	u.file, u.small = f, nil
	return nil
}

// Path returns the name of the file, which it creates unless it exists.
func (u *Upload) Path() (string, error) { return u.dir.upload(u.id), u.spill() }

// Open opens the content for reading, also that which is written later. It stays readable after
// Place and Discard. Its digest is not verified.
func (u *Upload) Open() (blobstore.Reader, error) {
	if err := u.spill(); err != nil {
		return nil, err
	}
	file, err := os.Open(u.dir.upload(u.id))
	if err != nil {
		return nil, err
	}
	return file, nil
}

// Save makes the content durable for ResumeUpload. An empty upload, with which every push begins,
// is not synced: a power cut loses no byte of it. used becomes its time, unless it is zero.
func (u *Upload) Save(used time.Time) error {
	var err error
	if u.state.Hash, err = u.hash.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
		return err
	}
	content, err := json.Marshal(u.state)
	if err != nil {
		return err
	}
	path := u.dir.uploadState(u.id)
	u.saved = true
	if u.state.Offset == 0 {
		err = os.WriteFile(path, content, 0o600)
	} else {
		err = u.saveBytes(path, content)
	}
	if err == nil && !used.IsZero() {
		err = os.Chtimes(path, used, used)
	}
	return err
}

func (u *Upload) saveBytes(path string, content []byte) error {
	if err := u.spill(); err != nil {
		return err
	}
	if err := unix.Fdatasync(int(u.file.Fd())); err != nil {
		return err
	}
	tmp, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, tmp, content)
}

// Forget removes the state, and keeps the bytes.
func (u *Upload) Forget() error {
	if !u.saved {
		return nil
	}
	return removeIfExists(u.dir.uploadState(u.id))
}

// Place makes a blob of the upload, see Dir.Place. The caller has compared the digest.
func (u *Upload) Place(_ context.Context, blob digest.Digest) (placed blobstore.Version, err error) {
	if err := u.spill(); err != nil {
		return nil, err
	}
	info, err := u.dir.Place(u.file, blob)
	if info == nil {
		return nil, err
	}
	return info, err
}

// Discard removes the files of the upload and closes it.
func (u *Upload) Discard() error {
	err := u.Forget() // first: without the state the upload is unknown, whatever else is left
	if u.file != nil {
		err = errors.Join(err, removeIfExists(u.dir.upload(u.id)))
	}
	return errors.Join(err, u.Close())
}

// Close closes the file. Bytes since Save are lost.
func (u *Upload) Close() (err error) {
	if u.file != nil {
		err = u.file.Close()
	}
	u.file, u.small = nil, nil
	return err
}

// Digest returns the digest of the content. Write has computed the sha256; the rare sha512 reads
// all again.
func (u *Upload) Digest(ctx context.Context, a digest.Algorithm) (digest.Digest, error) {
	if a == digest.SHA256 {
		return digest.NewDigest(a, u.hash), nil
	}
	if u.file == nil {
		return a.FromBytes(u.small), nil
	}
	h := a.Hash()
	if _, err := u.file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	if _, err := throttle.Copy(ctx, h, u.file, throttle.New(0)); err != nil {
		return "", err
	}
	return digest.NewDigest(a, h), nil
}

func (d *Dir) upload(id string) string      { return filepath.Join(d.uploads(), id) }
func (d *Dir) uploadState(id string) string { return d.upload(id) + ".json" }

// uploadFiles are the files of an upload: its bytes, its state, and an unfinished state.
func (d *Dir) uploadFiles(id string) []string {
	state := d.uploadState(id)
	return []string{d.upload(id), state, state + ".tmp"}
}

// Uploads lists the uploads with files, also of a crash, sorted. fs.ErrNotExist when the directory
// is missing, which Open creates.
func (d *Dir) Uploads() (ids []string, err error) {
	entries, err := os.ReadDir(d.uploads())
	last := ""
	for _, e := range entries { // sorted, so that the files of one upload follow one another
		id, _, _ := strings.Cut(e.Name(), ".")
		if id != last && blobstore.IsUploadID(id) {
			ids, last = append(ids, id), id
		}
	}
	return ids, err
}

// OldUpload returns the size of the files of an upload, and whether none was changed since a time.
func (d *Dir) OldUpload(id string, before, now time.Time) (size int64, old bool, err error) {
	for _, path := range d.uploadFiles(id) {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, false, err
		}
		if !isOld(path, info, before, now) {
			return 0, false, nil
		}
		size += info.Size()
	}
	return size, true, nil
}

// RemoveUpload removes the files of an upload.
func (d *Dir) RemoveUpload(id string) error {
	for _, path := range d.uploadFiles(id) {
		if err := removeIfExists(path); err != nil {
			return err
		}
	}
	return nil
}
