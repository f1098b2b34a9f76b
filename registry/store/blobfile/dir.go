// Package blobfile keeps blobs as files: it creates, resumes, places, opens, walks and quarantines
// them. Only this package knows the path of a blob. Dir.Storage implements package blobstore.
//
// Open opens the Dir of a storage. Dir.Blob returns the file of one blob, Dir.NewUpload and
// Dir.ResumeUpload write one. The layout is that of Quay's local storage, so that a mirror can be
// adopted without a copy:
//
//	<root>/sha256/<2 hex>/<hex>    a blob; likewise sha512
//	<root>/uploads/<id>            the bytes of an upload, beside <id>.json, the state to resume it
//	<root>/quarantine/sha256-<hex> a damaged blob, for people to look at
//	<root>/primary                 a note, see package fence
//
// A blob of Upload.Place survives a power cut. One of Blob.Create does so after Dir.Sync.
//
// Refused: temporary names in the directory of the blob (a walk would find those of a crash among
// the blobs), and the sync of a file before it has its name (two waits for the journal of the file
// system).
package blobfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// Dir is an open storage. It is safe for concurrent use.
type Dir struct {
	root   string
	handle *os.File // of root, always open: a sync reports every write of its file system that failed since it was opened

	// OpenFile opens a blob's file for reading. Tests replace it to force failures.
	OpenFile func(path string) (*os.File, error)

	mu     sync.Mutex
	synced map[string]bool // directories whose own entry is known to be on disk
}

// Open opens the storage at root and creates its directories.
func Open(root string) (*Dir, error) {
	d := &Dir{root: root, OpenFile: openNow, synced: map[string]bool{}}
	for _, dir := range []string{root, d.uploads(), d.algorithm(digest.SHA256), d.algorithm(digest.SHA512)} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			if _, reason := os.Stat(dir); reason != nil && !errors.Is(reason, fs.ErrNotExist) {
				err = reason // such as permission denied, behind a link that MkdirAll takes for a file
			}
			return nil, fmt.Errorf("make storage: %w", err)
		}
		if err := durable.CheckWritable(dir); err != nil {
			return nil, err
		}
	}
	// Another user, who made root, may let this one pass through its parent only.
	parent := durable.SyncDir(filepath.Dir(root))
	if errors.Is(parent, fs.ErrPermission) {
		parent = nil
	}
	if err := errors.Join(parent, durable.SyncDir(root)); err != nil {
		return nil, err
	}
	var err error
	if d.handle, err = os.Open(root); err != nil {
		return nil, fmt.Errorf("open storage: %w", err)
	}
	return d, nil
}

// Close closes the storage. Blobs of Create that were not synced may not survive a power cut.
func (d *Dir) Close() error { return d.handle.Close() }

// Root returns the directory of the storage.
func (d *Dir) Root() string { return d.root }

// Missing returns the directory for blobs of an algorithm below root, and reports whether it is
// missing.
func Missing(root string, a digest.Algorithm) (dir string, missing bool) {
	dir = filepath.Join(root, a.String())
	_, err := os.Stat(dir)
	return dir, errors.Is(err, fs.ErrNotExist)
}

// HasBlobs reports whether there are blobs below root, which need not be a storage.
func HasBlobs(root string) (bool, error) {
	d := &Dir{root: root}
	for _, a := range blobstore.Algorithms() {
		parts, err := d.Parts(a)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		for _, part := range parts {
			names, _ := fileNames(part.path()) // nil for what is not a directory
			if slices.ContainsFunc(names, func(name string) bool { return image.CheckDigest(digest.NewDigestFromEncoded(a, name)) == nil }) {
				return true, nil
			}
		}
	}
	return false, nil
}

// Name returns the name of a blob's file in a storage or a backup.
func Name(d digest.Digest) string { return filepath.FromSlash(blobstore.Name(d)) }

func (d *Dir) uploads() string                     { return filepath.Join(d.root, "uploads") }
func (d *Dir) quarantine() string                  { return filepath.Join(d.root, "quarantine") }
func (d *Dir) algorithm(a digest.Algorithm) string { return filepath.Join(d.root, a.String()) }

// CheckWritable returns an error unless a file can be created.
func (d *Dir) CheckWritable() error {
	tmp, err := os.CreateTemp(d.uploads(), ".check-*")
	if err != nil {
		return fmt.Errorf("storage is not writable: %w", err)
	}
	return errors.Join(tmp.Close(), os.Remove(tmp.Name()))
}

// CheckMounted returns the directory for blobs of an algorithm and reports whether it has any
// entry.
func (d *Dir) CheckMounted(a digest.Algorithm) (dir string, mounted bool, err error) {
	dir = d.algorithm(a)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return dir, len(entries) > 0, err
}

// Temp creates a file among the uploads, where collection removes it after a crash.
func (d *Dir) Temp() (*os.File, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, err
	}
	return os.OpenFile(d.upload(id.String()), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// Place syncs a file of Temp and renames it to a blob, durably. With an error it returns the new
// file, if there was none before.
//
// A free name is taken before the sync: one commit of the file system's journal writes file and
// name. A crash in between leaves a file without a row, which collection removes. An existing file
// stays until the new one is on disk.
func (d *Dir) Place(file *os.File, blob digest.Digest) (placed fs.FileInfo, err error) {
	to := d.Blob(blob).path()
	if err := d.ensureDir(filepath.Dir(to)); err != nil {
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
		return nil, d.replace(file.Name(), to)
	}
	return placed, durable.SyncDir(filepath.Dir(to))
}

// replace renames a synced file to a blob, durably. It replaces an existing file, which repairs a
// damaged one; readers keep the old one.
func (d *Dir) replace(from, to string) error {
	dir := filepath.Dir(to)
	if err := d.ensureDir(dir); err != nil {
		return err
	}
	err := os.Rename(from, to)
	if errors.Is(err, fs.ErrNotExist) { // the directory was removed since: a blob can come back all the same
		d.mu.Lock()
		delete(d.synced, dir)
		d.mu.Unlock()
		if err := d.ensureDir(dir); err != nil {
			return err
		}
		err = os.Rename(from, to)
	}
	if err != nil {
		return fmt.Errorf("place blob: %w", err)
	}
	return durable.SyncDir(dir)
}

// ensureDir creates a directory and syncs its parent, once in a process also when the directory
// exists: another request, or a process that crashed, may have just created it.
func (d *Dir) ensureDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.synced[dir] {
		return nil
	}
	if err := os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make blob directory: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	d.synced[dir] = true
	return nil
}

// openNow opens a file for reading, without waiting for the writer of a FIFO.
func openNow(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) }

func removeIfExists(path string) error { return durable.IgnoreMissing(os.Remove(path)) }
