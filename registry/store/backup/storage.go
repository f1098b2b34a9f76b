package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// fetchDatabase copies the snapshot to the backup, where the owner of the store cannot
// change it while it is read.
func (b *backup) fetchDatabase(ctx context.Context, sink sink) error {
	dir, err := os.OpenRoot(filepath.Dir(b.options.Database))
	if err != nil {
		return unreadable(b.options.Database, err)
	}
	defer dir.Close()
	if err := b.options.owns(dir); err != nil {
		return unreadable(filepath.Dir(b.options.Database), err)
	}
	from, info, err := b.openSnapshotFile(dir)
	if err != nil {
		return unreadable(filepath.Join(filepath.Dir(b.options.Database), b.options.Snapshot), err)
	}
	defer from.Close()
	to, err := sink.create()
	if err != nil {
		return err
	}
	b.database = info
	b.report.DatabaseBytes, err = throttle.Copy(ctx, to, from, b.pace)
	return durable.Finish(to, err)
}

// openSnapshotFile opens the snapshot by the name that the daemon has given, if it
// is that of a snapshot.
func (b *backup) openSnapshotFile(dir *os.Root) (*os.File, fs.FileInfo, error) {
	name := b.options.Snapshot
	if filepath.Base(name) != name || !strings.HasPrefix(name, filepath.Base(b.options.Database)+sqlite.SnapshotInfix) {
		return nil, nil, fmt.Errorf("%s is not the name of a snapshot", image.Quote(name))
	}
	return b.options.open(dir, name)
}

// owns refuses a directory of another user.
func (o Options) owns(dir *os.Root) error {
	info, err := dir.Stat(".")
	if err != nil {
		return err
	}
	return o.of(dir.Name(), info)
}

// open opens a file of the store. It must be its owner's, who may have linked a file of
// another user into the store.
func (o Options) open(dir *os.Root, name string) (*os.File, fs.FileInfo, error) {
	f, info, err := openRegular(dir, name)
	if err != nil {
		return nil, nil, err
	}
	if err := o.of(f.Name(), info); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

func (o Options) of(path string, info fs.FileInfo) error {
	if stat, ok := info.Sys().(*syscall.Stat_t); o.Owner != nil && ok && int(stat.Uid) != *o.Owner {
		return &fs.PathError{Op: "open", Path: path, Err: errNotOwners}
	}
	return nil
}

// look returns the file of a blob in the storage, or in what way it differs from the blob's row.
func (b *backup) look(blob blob) (info fs.FileInfo, damage string, err error) {
	if err := image.CheckDigest(blob.digest); err != nil {
		return nil, err.Error(), nil
	}
	info, err = b.storage.Lstat(blobfile.Name(blob.digest))
	switch {
	case err != nil:
		damage, err = b.lost(err)
		return nil, damage, err
	case !info.Mode().IsRegular():
		return nil, info.Name() + " is not a file", nil
	case info.Size() != blob.size:
		return nil, blobfile.WrongSize(info.Name(), info.Size(), blob.size), nil
	}
	return info, "", nil
}

// openBlob opens the file of a blob that look has seen.
func (b *backup) openBlob(blob blob) (f *os.File, damage string, err error) {
	f, _, err = b.options.open(b.storage, blobfile.Name(blob.digest))
	if err != nil {
		damage, err = b.lost(err)
	}
	return f, damage, err
}

// lost returns an error of a file in the storage as damage, if it is that.
func (b *backup) lost(err error) (damage string, _ error) {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, blobfile.ErrNotFile) ||
		errors.Is(err, errNotOwners) || blobfile.IsDamage(err) {
		return "its file cannot be read: " + err.Error(), nil
	}
	return "", unreadable(b.options.Storage, err)
}

var errNotOwners = errors.New("it does not belong to the user that the registry runs as")

// openRegular opens a regular file below root for reading. Opening a FIFO would wait for good.
func openRegular(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: f.Name(), Err: blobfile.ErrNotFile}
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// blob is a digest and how many bytes it has.
type blob struct {
	digest digest.Digest
	size   int64
}

// progressBytes is how much of a blob is copied between two reports of progress.
const progressBytes = 16 << 20

// pour copies a blob to w, and returns in what way its content is not what its digest says.
// It calls progress with how many bytes are done, within large blobs. What is missing at the
// end is not made up for.
func pour(ctx context.Context, b blob, from io.Reader, w io.Writer, p throttle.Pace,
	progress func(done int64)) (damage string, err error) {
	h := b.digest.Algorithm().Hash()
	var read readError
	var told, done int64
	paced := func(ctx context.Context, n int) error {
		if done += int64(n); done-told >= progressBytes {
			told = done
			progress(done)
		}
		return p(ctx, n)
	}
	n, err := throttle.Copy(ctx, io.MultiWriter(w, h), read.of(io.LimitReader(from, b.size)), paced)
	switch {
	case blobfile.IsDamage(read.err) || errors.Is(read.err, io.ErrUnexpectedEOF): // the latter from a tar that is cut off
		return blobfile.Unreadable(read.err), nil
	case err != nil:
		return "", err
	case n != b.size:
		return fmt.Sprintf("its file ended after %d of %d bytes", n, b.size), nil
	}
	if got := digest.NewDigest(b.digest.Algorithm(), h); got != b.digest {
		return "its file hashes to " + got.String(), nil
	}
	return "", nil
}

// readError remembers the error of a reader, to tell it from that of the writer in a copy.
type readError struct{ err error }

func (e *readError) of(r io.Reader) io.Reader {
	return throttle.ReaderFunc(func(p []byte) (int, error) {
		n, err := r.Read(p)
		if err != nil && !errors.Is(err, io.EOF) {
			e.err = err
		}
		return n, err
	})
}
