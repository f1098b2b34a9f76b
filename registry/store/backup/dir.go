package backup

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// dirSink is a backup that is a directory.
type dirSink struct {
	*backup
	path    string
	root    *os.Root
	lock    *os.File
	dirs    map[string]bool // directories in root with new names in them, to be synced
	noClone bool            // the file system cannot, and is not tried again
	noLink  bool
}

func (b *backup) openDir(path string) (_ *dirSink, err error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make backup directory: %w", err)
	}
	if err := b.mayWrite(path); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	lock, err := lockBackup(root, durable.Exclusive)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &dirSink{backup: b, path: path, root: root, lock: lock, dirs: map[string]bool{}}, nil
}

// mayWrite refuses the directories of a live store: a backup in the place of an open
// database would destroy it.
func (b *backup) mayWrite(path string) error {
	if _, err := os.Lstat(filepath.Join(path, databaseName+".lock")); err == nil {
		return &Error{Path: path, Reason: "holds the database of a store", hint: ownDirectory}
	}
	return b.notInStorage(path)
}

const ownDirectory = "give a directory of its own to the backup, best on another file system"

func (b *backup) notInStorage(path string) error {
	storage, err := b.storage.Stat(".")
	if err != nil {
		return err
	}
	for dir := path; ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && os.SameFile(info, storage) {
			return &Error{Path: path, Reason: "is in the storage itself", hint: ownDirectory}
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// lockBackup excludes a second writer, and readers while one writes. It does nothing where a
// file system has no locks.
func lockBackup(root *os.Root, how int) (*os.File, error) {
	f, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	if err := durable.Lock(f, how); errors.Is(err, durable.ErrLocked) {
		return nil, errors.Join(&Error{Path: root.Name(), Reason: "is in use by another backup or restore",
			hint: "wait until that has ended; `fuser " + root.Name() + "` names the process"}, f.Close())
	}
	return f, nil
}

const temporaryName = databaseName + ".tmp"

func (b *dirSink) snapshot() string            { return filepath.Join(b.path, temporaryName) }
func (b *dirSink) begin(context.Context) error { return nil }

func (b *dirSink) create() (*os.File, error) {
	if err := durable.IgnoreMissing(b.root.Remove(temporaryName)); err != nil { // of a backup that was interrupted
		return nil, err
	}
	return b.root.OpenFile(temporaryName, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func (b *dirSink) put(ctx context.Context, blob blob) (damage string, err error) {
	info, damage, err := b.look(blob)
	if err != nil || damage != "" {
		return damage, err
	}
	to := blobfile.Name(blob.digest)
	if b.upToDate(to, info) {
		b.report.Kept++
		return "", nil
	}
	if err := b.ensureDir(filepath.Dir(to)); err != nil {
		return "", err
	}
	tmp := to + ".tmp"
	if err := durable.IgnoreMissing(b.root.Remove(tmp)); err != nil { // of a backup that was interrupted
		return "", err
	}
	damage, err = b.transfer(ctx, blob, tmp)
	if err == nil && damage == "" {
		err = b.root.Rename(tmp, to)
	}
	if err != nil || damage != "" {
		return damage, errors.Join(err, durable.IgnoreMissing(b.root.Remove(tmp)))
	}
	return "", nil
}

// upToDate reports whether a file of the backup has the right size and is not older than the one
// in the storage. A blob never changes, but a damaged one is replaced: a backup of the damage is
// older than the replacement.
func (b *dirSink) upToDate(name string, source fs.FileInfo) bool {
	info, err := b.root.Lstat(name)
	return err == nil && info.Mode().IsRegular() && info.Size() == source.Size() &&
		!info.ModTime().Before(source.ModTime())
}

func (b *dirSink) ensureDir(dir string) error {
	if b.dirs[dir] {
		return nil
	}
	if err := b.root.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for ; dir != "."; dir = filepath.Dir(dir) {
		b.dirs[dir] = true
	}
	return nil
}

// transfer brings a blob to a name of the backup in the cheapest way.
func (b *dirSink) transfer(ctx context.Context, blob blob, to string) (damage string, err error) {
	from, damage, err := b.openBlob(blob)
	if err != nil || damage != "" {
		return damage, err
	}
	defer from.Close()
	if done, err := b.clone(from, to); done || err != nil {
		return "", err
	}
	if b.link(from, to) {
		b.report.Linked++
		return "", nil
	}
	return b.copy(ctx, blob, from, to)
}

// clone shares the blocks of a file, where the file system can.
func (b *dirSink) clone(from *os.File, name string) (done bool, err error) {
	if b.noClone {
		return false, nil
	}
	to, err := b.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false, err
	}
	if err := unix.IoctlFileClone(int(to.Fd()), int(from.Fd())); err != nil {
		b.noClone = true // for any reason: the other ways are as good
		return false, errors.Join(to.Close(), b.root.Remove(name))
	}
	b.report.Cloned++
	return true, durable.Finish(to, nil)
}

// link shares the file. Neither the store nor a backup ever writes to a blob in place. It links the
// open file: the name could lead root to something else by now, such as a symbolic link.
func (b *dirSink) link(from *os.File, to string) bool {
	if b.noLink {
		return false
	}
	dir, err := b.root.Open(filepath.Dir(to))
	if err == nil {
		defer dir.Close()
		err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", from.Fd()), int(dir.Fd()),
			filepath.Base(to), unix.AT_SYMLINK_FOLLOW)
	}
	b.noLink = err != nil && !errors.Is(err, syscall.EMLINK) // which is about this file alone
	return err == nil
}

// copy reads, verifies and writes a blob.
func (b *dirSink) copy(ctx context.Context, blob blob, from io.Reader, name string) (damage string, err error) {
	to, err := b.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	damage, err = b.pour(ctx, blob, from, to)
	if err == nil && damage == "" {
		err = to.Sync()
	}
	return damage, errors.Join(err, to.Close())
}

// finish makes the names of the blobs durable and then puts the database in place.
func (b *dirSink) finish(ctx context.Context, snapshot *sql.DB) error {
	if err := syncBackup(os.Open(filepath.Dir(b.path))); err != nil { // which may have a new name in it, too
		return err
	}
	b.dirs["."] = true
	for dir := range b.dirs {
		if err := syncBackup(b.root.Open(dir)); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := b.root.Rename(temporaryName, databaseName); err != nil {
		return err
	}
	if err := syncBackup(b.root.Open(".")); err != nil {
		return err
	}
	if !b.options.Prune {
		return nil
	}
	return b.prune(ctx, snapshot)
}

// syncBackup syncs a directory, where its file system and its mode allow that: a network share
// often does not, and a backup there is better than none.
func syncBackup(dir *os.File, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	err = dir.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, dir.Close())
}

// prune removes the blobs that the database, which is in place by now, does not name.
func (b *dirSink) prune(ctx context.Context, snapshot *sql.DB) error {
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		err := fs.WalkDir(b.root.FS(), a.String(), func(name string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && e.IsDir() {
				return nil
			}
			d := digest.NewDigestFromEncoded(a, strings.TrimSuffix(path.Base(name), ".tmp"))
			if err != nil || image.CheckDigest(d) != nil { // a name that is not a digest is not ours to delete
				return err
			}
			named, err := database.Exists(ctx, snapshot, `SELECT 1 FROM blobs WHERE digest = ?`, d)
			if err != nil || named && filepath.FromSlash(name) == blobfile.Name(d) {
				return err
			}
			b.report.Pruned++
			return b.root.Remove(name)
		})
		if err != nil {
			return fmt.Errorf("prune: %w", err)
		}
	}
	return nil
}

func (b *dirSink) discard() error {
	return errors.Join(durable.IgnoreMissing(b.root.Remove(temporaryName)), b.lock.Close(), b.root.Close())
}
