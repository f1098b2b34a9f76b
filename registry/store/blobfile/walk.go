package blobfile

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/image"
)

// Part is a directory of blobs with the same first digits.
type Part struct {
	dir       *Dir
	algorithm digest.Algorithm
	name      string
}

// Parts lists the parts of an algorithm, or returns fs.ErrNotExist.
func (d *Dir) Parts(a digest.Algorithm) ([]Part, error) {
	entries, err := os.ReadDir(d.algorithm(a))
	parts := make([]Part, len(entries))
	for i, e := range entries {
		parts[i] = Part{dir: d, algorithm: a, name: e.Name()}
	}
	return parts, err
}

func (p Part) path() string { return filepath.Join(p.dir.algorithm(p.algorithm), p.name) }

// Prefix returns the beginning of the digests in the part.
func (p Part) Prefix() string { return p.algorithm.String() + ":" + p.name }

// Names lists the files in the part, sorted, also those that are no blobs.
func (p Part) Names(context.Context) ([]string, error) {
	names, err := fileNames(p.path())
	if errors.Is(err, fs.ErrNotExist) || err != nil && !isHexPair(p.name) { // not ours
		return nil, nil
	}
	return names, err
}

// Digest returns the blob of a file in the part. ok is false for a file of another program.
func (p Part) Digest(name string) (blob digest.Digest, ok bool) {
	blob = digest.NewDigestFromEncoded(p.algorithm, name)
	return blob, image.CheckDigest(blob) == nil && strings.HasPrefix(name, p.name)
}

func isHexPair(name string) bool {
	return len(name) == 2 && strings.Trim(name, "0123456789abcdef") == ""
}

// fileNames returns the names in a directory, sorted.
func fileNames(path string) ([]string, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// Quarantine moves the file, if it exists, to quarantine.
func (b Blob) Quarantine(context.Context) error {
	if image.CheckDigest(b.digest) != nil {
		return nil
	}
	if err := os.MkdirAll(b.dir.quarantine(), 0o700); err != nil {
		return err
	}
	if err := os.Rename(b.path(), b.dir.Quarantined(b.digest).path()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// TidyQuarantine removes the files in quarantine that keep rejects.
func (d *Dir) TidyQuarantine(keep func(digest.Digest) (bool, error)) error {
	entries, err := os.ReadDir(d.quarantine())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		algorithm, hex, _ := strings.Cut(e.Name(), "-")
		blob := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), hex)
		if image.CheckDigest(blob) != nil { // a name that is not a digest is not ours to delete
			continue
		}
		kept, err := keep(blob)
		if err == nil && !kept {
			err = os.RemoveAll(d.Quarantined(blob).path())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Sync makes blobs of Create durable, files and names. With all it syncs the whole file system:
// once for all files and directories, but also for the writes of other programs.
func (d *Dir) Sync(blobs []digest.Digest, all bool) error {
	if all {
		return d.syncAll(blobs)
	}
	return d.syncEach(blobs)
}

// syncAll syncs each file as well: Linux before 5.8 reports a failed write only there.
func (d *Dir) syncAll(blobs []digest.Digest) error {
	failed := unix.Syncfs(int(d.handle.Fd()))
	const wait = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	for _, blob := range blobs {
		failed = errors.Join(failed, d.Blob(blob).withFile(func(file *os.File) error {
			err := unix.SyncFileRange(int(file.Fd()), 0, 0, wait)
			if err != nil { // also on a file system that cannot do this
				err = file.Sync()
			}
			return err
		}))
	}
	return failed
}

func (d *Dir) syncEach(blobs []digest.Digest) error {
	var errs []error
	dirs := map[string]bool{}
	for _, blob := range blobs {
		errs = append(errs, d.Blob(blob).withFile(func(file *os.File) error {
			dirs[filepath.Dir(file.Name())] = true
			return file.Sync()
		}))
	}
	for dir := range dirs {
		errs = append(errs, d.ensureDir(dir), durable.SyncDir(dir))
	}
	return errors.Join(errs...)
}
