package blobfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// finding is the result of Inspect.
type finding struct {
	blobstore.Finding
	transient bool // the damage is an error that may pass
}

// Inspect compares the file with the digest and size of its row. With a pace it reads and hashes
// the content. An error is one of this process, such as a lack of permission, and no damage.
func (b Blob) Inspect(ctx context.Context, size int64, p throttle.Pace) (blobstore.Finding, error) {
	if err := image.CheckDigest(b.digest); err != nil {
		return blobstore.Finding{Damage: err.Error()}, nil
	}
	path := b.path()
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return blobstore.Finding{Damage: missing(path)}, nil
	case IsDamage(err):
		return blobstore.Finding{Damage: Unreadable(err)}, nil
	case err != nil:
		return blobstore.Finding{}, fmt.Errorf("look at blob %s: %w", b.digest, err)
	case !info.Mode().IsRegular():
		return blobstore.Finding{Damage: path + " is not a file", Seen: info}, nil
	case p != nil:
		found, err := b.readAgain(ctx, path, size, p)
		if found.transient && found.Seen == nil {
			found.Seen = info // the file exists and cannot be opened
		}
		return found.Finding, err
	case info.Size() != size:
		return blobstore.Finding{Damage: WrongSize(path, info.Size(), size), Seen: info}, nil
	}
	return blobstore.Finding{Seen: info}, nil
}

// readAgain reads the content until two reads agree on the damage.
func (b Blob) readAgain(ctx context.Context, path string, size int64, p throttle.Pace) (found finding, err error) {
	var read int64
	for try := range triesOfRead {
		found, err = b.read(ctx, path, size, p)
		read += found.Read
		if err != nil || found.Damage == "" || try > 0 && !found.transient {
			break
		}
	}
	found.Read = read
	return found, err
}

func (b Blob) read(ctx context.Context, path string, size int64, p throttle.Pace) (found finding, err error) {
	f, err := b.dir.OpenFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		found.Damage = missing(path)
		return found, nil
	}
	if err == nil {
		defer f.Close()
		// What readers have in the page cache stays there, and this does not take its place.
		// Advice may be ignored.
		_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_NOREUSE)
		found.Seen, err = stat(f)
	}
	h := b.digest.Algorithm().Hash()
	if err == nil {
		found.Read, err = throttle.Copy(ctx, h, f, p)
	}
	switch {
	case IsDamage(err):
		found.Damage, found.transient = Unreadable(err), mayPass(err)
	case err != nil:
		return found, fmt.Errorf("read blob %s: %w", b.digest, err)
	case found.Read != size:
		found.Damage = WrongSize(path, found.Read, size)
	default:
		if got := digest.NewDigest(b.digest.Algorithm(), h); got != b.digest {
			found.Damage = fmt.Sprintf("its file %s hashes to %s", path, got)
		}
	}
	return found, nil
}

// stat keeps a nil fs.FileInfo from becoming a Version that is not nil.
func stat(f *os.File) (blobstore.Version, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return info, nil
}

func missing(path string) string { return "its file " + path + " is missing" }

// WrongSize describes a file that has another size than its row says.
func WrongSize(path string, got, want int64) string {
	return fmt.Sprintf("its file %s has %d bytes, not %d", path, got, want)
}

// Unreadable describes a file that the medium cannot read.
func Unreadable(err error) string { return "its file cannot be read: " + err.Error() }

// ErrNotFile reports that the name of a blob is not a regular file.
var ErrNotFile = errors.New("not a file")

// lost marks an error that proves that a file is damaged as blobstore.ErrLost. EIO, a lack of
// permission, or too many open files prove nothing.
func lost(err error) error {
	if IsDamage(err) && !mayPass(err) {
		return lostError{err}
	}
	return err
}

// lostError has the text of its error.
type lostError struct{ error }

func (e lostError) Unwrap() error { return e.error }

func (e lostError) Is(target error) bool { return target == blobstore.ErrLost }

// IsDamage reports whether an error is one of the medium, which any process would get.
func IsDamage(err error) bool {
	return isOneOf(err, syscall.EIO, syscall.EBADMSG, syscall.EUCLEAN, syscall.ENODATA, syscall.EISDIR, syscall.ENXIO)
}

// mayPass reports whether a retry may succeed: the error says nothing about the content.
func mayPass(err error) bool {
	return isOneOf(err, syscall.EIO, syscall.EINTR, syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE,
		syscall.ENFILE, syscall.ETIMEDOUT)
}

func isOneOf(err error, codes ...syscall.Errno) bool {
	return slices.ContainsFunc(codes, func(code syscall.Errno) bool { return errors.Is(err, code) })
}

// triesOfRead is how often a file is read that may be whole, and pauseOfRead the first pause.
const (
	triesOfRead = 3
	pauseOfRead = 20 * time.Millisecond
)

// retried calls do until it succeeds or its error is permanent.
func retried(do func() error) (err error) {
	for try := range triesOfRead {
		if err = do(); !mayPass(err) {
			return err
		}
		if try < triesOfRead-1 {
			time.Sleep(pauseOfRead << (2 * try))
		}
	}
	return err
}
