package blobfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// Blob is the file of a blob, whether or not it exists. Its digest is valid, except for Inspect.
type Blob struct {
	dir         *Dir
	digest      digest.Digest
	quarantined bool
}

// Blob returns the file of a blob.
func (d *Dir) Blob(blob digest.Digest) Blob { return Blob{dir: d, digest: blob} }

// Quarantined returns the file of a blob in quarantine.
func (d *Dir) Quarantined(blob digest.Digest) Blob {
	return Blob{dir: d, digest: blob, quarantined: true}
}

func (b Blob) path() string {
	if b.quarantined {
		return filepath.Join(b.dir.quarantine(), b.digest.Algorithm().String()+"-"+b.digest.Encoded())
	}
	return filepath.Join(b.dir.root, Name(b.digest))
}

// Open opens the file for reading if it has the size of its row: a shorter one would be served as
// if it were whole. It retries transient errors, such as EIO or too many open files. blobstore.IsLoss
// recognizes a lost file.
func (b Blob) Open(_ context.Context, size int64) (io.ReadSeekCloser, error) {
	var file *os.File
	path := b.path()
	err := retried(func() (err error) {
		file, err = b.dir.openSized(path, size)
		return err
	})
	if err != nil {
		return nil, lost(err)
	}
	return file, nil
}

func (d *Dir) openSized(path string, size int64) (*os.File, error) {
	file, err := d.OpenFile(path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && info.Size() != size {
		err = fmt.Errorf("%w: %s", blobstore.ErrLost, WrongSize(path, info.Size(), size))
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// Check returns an error of blobstore.IsLoss unless the file exists with the size of its row.
func (b Blob) Check(_ context.Context, size int64) error {
	path := b.path()
	info, err := os.Stat(path)
	if err == nil && (info.Size() != size || !info.Mode().IsRegular()) {
		err = fmt.Errorf("%w: %s", blobstore.ErrLost, WrongSize(path, info.Size(), size))
	}
	return lost(err)
}

// Readable reports whether the file can be opened.
func (b Blob) Readable(context.Context) bool {
	file, err := b.dir.OpenFile(b.path())
	if err == nil {
		file.Close()
	}
	return err == nil
}

// Exists reports whether anything has the name of the blob.
func (b Blob) Exists() bool {
	_, err := os.Lstat(b.path())
	return err == nil
}

// Has reports whether the file has these bytes.
func (b Blob) Has(body []byte) bool {
	same := false
	err := b.withFile(func(file *os.File) error {
		there := make([]byte, len(body)+1)
		n, err := io.ReadFull(file, there)
		same = (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) && bytes.Equal(there[:n], body)
		return nil
	})
	return err == nil && same
}

// withFile opens the file and calls do. A missing file was collected, or its readers find the
// damage, as they do with another kind of file.
func (b Blob) withFile(do func(*os.File) error) error {
	file, err := b.openRegular()
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNotFile) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(do(file), file.Close())
}

// openRegular opens the file if it is a regular one: to open a FIFO would block.
func (b Blob) openRegular() (*os.File, error) {
	file, err := os.OpenFile(b.path(), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, ErrNotFile
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = ErrNotFile
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// Create writes the file, or returns nil if it exists. It syncs nothing. With an error it returns
// the file that it has created, if any.
func (b Blob) Create(body []byte) (made fs.FileInfo, err error) {
	path := b.path()
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	file, err := os.OpenFile(path, flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.Mkdir(filepath.Dir(path), 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make blob directory: %w", err)
		}
		file, err = os.OpenFile(path, flags, 0o600)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("make blob: %w", err)
	}
	made, err = file.Stat()
	if err == nil {
		_, err = file.Write(body)
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return made, fmt.Errorf("write blob: %w", err)
	}
	return made, nil
}

// Replace replaces the file, durably.
func (b Blob) Replace(body []byte) error {
	file, err := b.dir.Temp()
	if err != nil {
		return err
	}
	_, err = file.Write(body)
	if err = durable.Finish(file, err); err == nil {
		err = b.dir.replace(file.Name(), b.path())
	}
	if err != nil {
		return errors.Join(err, removeIfExists(file.Name()))
	}
	return nil
}

// Remove removes the file and returns its size, or fs.ErrNotExist.
func (b Blob) Remove(context.Context) (int64, error) {
	path := b.path()
	info, err := os.Lstat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), os.Remove(path)
}

// RemoveIf removes the file if it is the one that Create or Place returned.
func (b Blob) RemoveIf(_ context.Context, made blobstore.Version) error {
	mine, ok := made.(fs.FileInfo)
	if !ok {
		return nil
	}
	info, err := os.Lstat(b.path())
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(info, mine) {
		return nil
	}
	if err != nil {
		return err
	}
	return removeIfExists(b.path())
}

// IsStill reports whether the file is the one seen, or, for nil, missing.
func (b Blob) IsStill(_ context.Context, seen blobstore.Version) bool {
	if image.CheckDigest(b.digest) != nil {
		return seen == nil
	}
	info, err := os.Stat(b.path())
	if err != nil || seen == nil {
		return err != nil
	}
	was, ok := seen.(fs.FileInfo)
	return ok && os.SameFile(info, was)
}

// Old returns the size of the file and whether it was last changed before a time. A time in the
// future is set to now, unless before is in the future itself.
func (b Blob) Old(_ context.Context, before, now time.Time) (size int64, old bool, err error) {
	info, err := os.Lstat(b.path())
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	return info.Size(), isOld(b.path(), info, before, now), nil
}

func isOld(path string, info fs.FileInfo, before, now time.Time) bool {
	if info.ModTime().After(now.Add(blobstore.ClockSlack)) && !before.After(now) {
		_ = os.Chtimes(path, now, now) // without it the file stays until the clock has caught up
		return false
	}
	return info.ModTime().Before(before)
}
