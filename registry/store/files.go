package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/image"
)

// files is the directory of the blobs. It knows paths and durability and nothing of rows; this is what a
// store in S3 would replace.
type files struct {
	root string
	open func(path string) (*os.File, error) // for reading a blob

	mu     sync.Mutex
	synced map[string]bool // directories whose own entry is known to be on disk
}

func openFiles(root string) (*files, error) {
	f := &files{root: root, open: openNow, synced: map[string]bool{}}
	for _, dir := range []string{root, f.uploads(), f.dir(digest.SHA256), f.dir(digest.SHA512)} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			if _, why := os.Stat(dir); why != nil && !errors.Is(why, fs.ErrNotExist) {
				err = why // such as permission denied, behind a link that MkdirAll takes for a file
			}
			return nil, full(root, 0, fmt.Errorf("make storage: %w", err))
		}
		if err := checkWritable(dir); err != nil {
			return nil, err
		}
	}
	for _, dir := range []string{filepath.Dir(root), root} {
		if err := durable.SyncDir(dir); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// checkWritable asks before anything is served: a registry that finds out with the first push is noticed too late.
func checkWritable(dir string) error {
	// As the effective user with its capabilities: a command that root gave to the owner of the store reaches it only so.
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("files cannot be made in %s: %w", dir, err)
	}
	return nil
}

// checkPresent fails with a *LostStorageError when there are blobs and no directory for them: a disk that is not
// mounted must not look like a registry that has lost everything.
func (s *Store) checkPresent(ctx context.Context, root string) error {
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		dir := filepath.Join(root, a.String())
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			continue // whatever else is wrong with it, openFiles will say
		}
		held, err := exists(ctx, s.reader, `SELECT 1 FROM blobs WHERE digest >= ?1 || ':' AND digest < ?1 || ';'`, a.String())
		if err != nil {
			return fmt.Errorf("look for blobs: %w", err)
		}
		if held {
			return &LostStorageError{Path: dir}
		}
	}
	return nil
}

// checkKnown fails with a *LostDatabaseError when there are blobs and no database. Were one made, collection would
// take all of them for what a crash has left.
func checkKnown(database, storage string) error {
	if info, err := os.Stat(database); err == nil && info.Size() > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil // whatever is wrong with it, opening it will say
	}
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		dirs, err := os.ReadDir(filepath.Join(storage, a.String()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look for blobs: %w", err)
		}
		for _, dir := range dirs {
			names, _ := fileNames(filepath.Join(storage, a.String(), dir.Name())) // of what is no directory, none
			if slices.ContainsFunc(names, func(name string) bool { return image.CheckDigest(digest.NewDigestFromEncoded(a, name)) == nil }) {
				return &LostDatabaseError{Path: database, Storage: storage}
			}
		}
	}
	return nil
}

func (f *files) uploads() string               { return filepath.Join(f.root, "uploads") }
func (f *files) upload(id string) string       { return filepath.Join(f.uploads(), id) }
func (f *files) uploadState(id string) string  { return f.upload(id) + ".json" }
func (f *files) dir(a digest.Algorithm) string { return filepath.Join(f.root, a.String()) }

// blob is where the bytes of d are. d has been checked, so it has no more than hex digits in it.
func (f *files) blob(d digest.Digest) string {
	hex := d.Encoded()
	return filepath.Join(f.dir(d.Algorithm()), hex[:2], hex)
}

// settle syncs a file and moves it to where d is kept, and returns when both will survive a power cut. With an
// error it gives the file that it has placed where there was none, if it has.
//
// A name that nobody had is given before the sync: the journal then takes file and name to the disk together, and
// the directory's own sync has nothing left to wait for. A crash in between leaves a file that may not be whole and
// that no row names, which collection removes. A file that is there stays until the new one is on disk.
func (f *files) settle(file *os.File, d digest.Digest) (placed fs.FileInfo, err error) {
	to := f.blob(d)
	if err := f.ensureDir(filepath.Dir(to)); err != nil {
		return nil, err
	}
	info, err := os.Lstat(file.Name())
	if err != nil {
		return nil, fmt.Errorf("look at the upload: %w", err)
	}
	// It fails for a name that is taken, and on file systems that do not know this way to rename.
	if unix.Renameat2(unix.AT_FDCWD, file.Name(), unix.AT_FDCWD, to, unix.RENAME_NOREPLACE) == nil {
		placed = info
	}
	if err := file.Sync(); err != nil {
		return placed, fmt.Errorf("sync blob: %w", err)
	}
	if placed == nil {
		return nil, f.place(file.Name(), d)
	}
	return placed, durable.SyncDir(filepath.Dir(to))
}

// place moves a synced file to where d is kept, and returns when that will survive a power cut. It
// replaces a file that is already there: that heals one that was damaged, and readers keep the old one.
func (f *files) place(from string, d digest.Digest) error {
	to := f.blob(d)
	dir := filepath.Dir(to)
	if err := f.ensureDir(dir); err != nil {
		return err
	}
	err := os.Rename(from, to)
	if errors.Is(err, fs.ErrNotExist) { // somebody has removed the directory: what was in it can come back all the same
		f.forgetDir(dir)
		if err := f.ensureDir(dir); err != nil {
			return err
		}
		err = os.Rename(from, to)
	}
	if err != nil {
		return fmt.Errorf("place blob: %w", err)
	}
	return durable.SyncDir(dir)
}

func (f *files) forgetDir(dir string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.synced, dir)
}

// ensureDir makes a directory and syncs its parent. Once in the life of a process it syncs it even if the
// directory exists: it may have been made just before a crash, or by another request just now.
func (f *files) ensureDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.synced[dir] {
		return nil
	}
	if err := os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make blob directory: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	f.synced[dir] = true
	return nil
}

// check says whether a file can be made.
func (f *files) check() error {
	tmp, err := os.CreateTemp(f.uploads(), ".check-*")
	if err != nil {
		return full(f.root, 0, fmt.Errorf("storage is not writable: %w", err))
	}
	return errors.Join(tmp.Close(), os.Remove(tmp.Name()))
}

// writeFile replaces a file as a whole and durably.
func writeFile(path string, content []byte) error {
	tmp, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	return durable.WriteFile(path, tmp, content)
}

func removeIfThere(path string) error { return unlessMissing(os.Remove(path)) }

// unlessMissing is the error of a removal, and nil where there was nothing to remove.
func unlessMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// lock takes the exclusive lock of a database. A crash leaves nothing to clean up; the file stays, since
// removing it would let two processes lock two files.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the store: %w", err)
	}
	err = durable.Lock(f, durable.Exclusive)
	if errors.Is(err, durable.ErrLocked) {
		return nil, errors.Join(&LockedError{Path: path}, f.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the store: %w", err), f.Close())
	}
	return f, nil
}

// openNow opens a file to be read, and does not wait for what a FIFO in its place would be waiting for.
func openNow(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) }
