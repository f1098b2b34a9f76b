package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/mirror-appliance/appliance/internal/image"
)

// blobs looks at the file of every blob, page by page.
func (v *verification) blobs(ctx context.Context) error {
	for last := digest.Digest(""); ; {
		page, err := listBlobs(ctx, v.store.reader, last)
		if err != nil {
			return err
		}
		for _, b := range page {
			if err := v.blob(ctx, b); err != nil {
				return err
			}
			v.report.Blobs++
			v.report.BlobBytes += b.size
		}
		v.progress()
		if len(page) < blobPage {
			return nil
		}
		last = page[len(page)-1].digest
	}
}

// listBlobs lists a page of the blobs after last, in order.
func listBlobs(ctx context.Context, q querier, last digest.Digest) (page []sized, err error) {
	scan := func(rows *sql.Rows) error {
		var b sized
		err := rows.Scan(&b.digest, &b.size)
		page = append(page, b)
		return err
	}
	err = query(ctx, q, scan, `SELECT digest, size FROM blobs WHERE digest > ? ORDER BY digest LIMIT ?`, last, blobPage)
	if err != nil {
		return nil, fmt.Errorf("list blobs: %w", err)
	}
	return page, nil
}

// blob looks at one blob. What a collection or a scrub did between the row and the file is no damage: the
// guard counts what they take, and when it counted anything meanwhile, this looks again.
func (v *verification) blob(ctx context.Context, b sized) error {
	for {
		epoch, behind := v.store.guard.currentEpoch(), v.store.guard.isInFlight(b.digest)
		seen, err := v.store.inspect(ctx, b, v.options.Content, v.pace)
		v.report.ContentBytes += seen.read
		if err != nil || seen.damage == "" {
			return err
		}
		held, err := exists(ctx, v.store.reader, `SELECT 1 FROM blobs WHERE digest = ?`, b.digest)
		if err != nil || !held {
			return err
		}
		if _, ok := v.store.journal.leftOver(b.digest); ok { // its bytes are there, and its file will be
			return nil
		}
		if behind { // its file may have been a moment behind its row
			if err := pause(ctx, time.Millisecond); err != nil {
				return err
			}
			continue
		}
		if epoch == v.store.guard.currentEpoch() {
			v.problem(ProblemBlob, b.digest.String(), seen.damage, remedyScrub)
			return nil
		}
	}
}

// sighting is what was seen of a blob's file.
type sighting struct {
	damage string      // in what way the file is not what the row says, for people; "" for none
	info   fs.FileInfo // nil when there is no file
	read   int64       // how many bytes were read
	passes bool        // the damage is an error that may pass
}

// inspect looks whether the file of a blob is what its row says. With content it is read and hashed, at
// the given pace. An error is one of this process (no rights, too many open files) and no damage.
func (s *Store) inspect(ctx context.Context, b sized, content bool, p pace) (sighting, error) {
	if err := image.CheckDigest(b.digest); err != nil {
		return sighting{damage: err.Error()}, nil
	}
	path := s.files.blob(b.digest)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return sighting{damage: "its file " + path + " is missing"}, nil
	case isDamage(err):
		return sighting{damage: cannotBeRead(err)}, nil
	case err != nil:
		return sighting{}, fmt.Errorf("look at blob %s: %w", b.digest, err)
	case !info.Mode().IsRegular():
		return sighting{damage: path + " is not a file", info: info}, nil
	case content:
		var seen sighting
		var read int64
		for try := range triesOfRead { // damage that another look does not see is none
			seen, err = s.readWhole(ctx, path, b, p)
			read += seen.read
			if err != nil || seen.damage == "" || try > 0 && !seen.passes {
				break
			}
		}
		if seen.passes && seen.info == nil {
			seen.info = info // it is there, and cannot be opened
		}
		seen.read = read
		return seen, err
	case info.Size() != b.size:
		return sighting{damage: wrongSize(path, info.Size(), b.size), info: info}, nil
	}
	return sighting{info: info}, nil
}

func wrongSize(path string, got, want int64) string {
	return fmt.Sprintf("its file %s has %d bytes, not %d", path, got, want)
}

func cannotBeRead(err error) string { return "its file cannot be read: " + err.Error() }

// readWhole reads a file to its end and says whether it is b.
func (s *Store) readWhole(ctx context.Context, path string, b sized, p pace) (seen sighting, err error) {
	f, err := s.files.open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return sighting{damage: "its file " + path + " is missing"}, nil
	}
	if err == nil {
		defer f.Close()
		// What readers have in the cache is to stay there, and this not to take its place. Advice may be ignored.
		_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_NOREUSE)
		seen.info, err = f.Stat()
	}
	h := b.digest.Algorithm().Hash()
	if err == nil {
		seen.read, err = io.CopyBuffer(onlyWriter{h}, pacedReader(ctx, f, p), make([]byte, copyBuffer))
	}
	switch {
	case isDamage(err):
		seen.damage, seen.passes = cannotBeRead(err), mayPass(err)
	case err != nil:
		return seen, fmt.Errorf("read blob %s: %w", b.digest, err)
	case seen.read != b.size:
		seen.damage = wrongSize(path, seen.read, b.size)
	default:
		if got := digest.NewDigest(b.digest.Algorithm(), h); got != b.digest {
			seen.damage = fmt.Sprintf("its file %s hashes to %s", path, got)
		}
	}
	return seen, nil
}

// onlyWriter hides what else a writer can, so that a copy uses the buffer that it was given.
type onlyWriter struct{ io.Writer }

// isDamage says that an error is one of the medium: another try, by anybody, fails as well.
func isDamage(err error) bool {
	for _, code := range []syscall.Errno{syscall.EIO, syscall.EBADMSG, syscall.EUCLEAN, syscall.ENODATA, syscall.EISDIR, syscall.ENXIO} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// pace waits until n bytes, which were read just now, are paid for.
type pace func(ctx context.Context, n int) error

// newPace allows so many bytes a second, 0 for any number.
func newPace(bytesPerSecond int64) pace {
	if bytesPerSecond <= 0 {
		return func(ctx context.Context, _ int) error { return ctx.Err() }
	}
	// The burst is what one read may ask for, and no more: pulls share the disk.
	return rate.NewLimiter(rate.Limit(bytesPerSecond), copyBuffer).WaitN
}

// pacedReader reads r, copyBuffer bytes at most at a time, at a pace and until ctx ends.
func pacedReader(ctx context.Context, r io.Reader, p pace) io.Reader {
	return readerFunc(func(buffer []byte) (int, error) {
		n, err := r.Read(buffer[:min(len(buffer), copyBuffer)])
		if wait := p(ctx, n); wait != nil {
			return n, wait
		}
		return n, err
	})
}

// extra counts the files that no row names: what a crash leaves, and what others put there.
func (v *verification) extra(ctx context.Context) error {
	count := func(_ digest.Digest, size int64) error {
		v.report.ExtraFiles++
		v.report.ExtraBytes += size
		return ctx.Err()
	}
	ever := v.store.now().Add(100 * 365 * 24 * time.Hour) // however new they are
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		dirs, err := os.ReadDir(filepath.Join(v.store.files.root, a.String()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // that its blobs are missing has been said
		}
		if err != nil {
			return fmt.Errorf("list blob files: %w", err)
		}
		for _, dir := range dirs {
			if err := v.store.garbageFiles(ctx, a, dir.Name(), ever, count); err != nil {
				return err
			}
		}
	}
	return nil
}

// uploads counts the uploads that nobody finished.
func (v *verification) uploads(ctx context.Context) error {
	return v.store.StaleUploads(ctx, v.store.now().Add(-staleAfter), func(_ string, size int64) error {
		v.report.StaleUploads++
		v.report.StaleUploadBytes += size
		return nil
	})
}
