package store

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
	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// backupDir is a backup that is a directory.
type backupDir struct {
	*backup
	path    string
	root    *os.Root
	lock    *os.File
	dirs    map[string]bool // directories in root with new names in them, to be synced
	noClone bool            // the file system cannot, so nobody need try again
	noLink  bool
}

func (b *backup) openDir(path string) (_ *backupDir, err error) {
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
	return &backupDir{backup: b, path: path, root: root, lock: lock, dirs: map[string]bool{}}, nil
}

// mayWrite refuses directories of a live store: a backup that was put in the place of an open database
// would be the end of it.
func (b *backup) mayWrite(path string) error {
	if _, err := os.Lstat(filepath.Join(path, backupDatabase+".lock")); err == nil {
		return &BackupError{Path: path, Why: "holds the database of a store", hint: ownDirectory}
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
			return &BackupError{Path: path, Why: "is in the storage itself", hint: ownDirectory}
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// lockBackup keeps two from writing, or one from reading while the other writes. Where a file system knows
// no locks, nobody is kept.
func lockBackup(root *os.Root, how int) (*os.File, error) {
	f, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	if err := durable.Lock(f, how); errors.Is(err, durable.ErrLocked) {
		return nil, errors.Join(&BackupError{Path: root.Name(), Why: "is in use by another backup or restore",
			hint: "wait until that has ended; `fuser " + root.Name() + "` names the process"}, f.Close())
	}
	return f, nil
}

const backupTemporary = backupDatabase + ".tmp"

func (b *backupDir) snapshot() string            { return filepath.Join(b.path, backupTemporary) }
func (b *backupDir) begin(context.Context) error { return nil }

func (b *backupDir) create() (*os.File, error) {
	if err := b.removeIfThere(backupTemporary); err != nil { // of a backup that was interrupted
		return nil, err
	}
	return b.root.OpenFile(backupTemporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func (b *backupDir) removeIfThere(name string) error {
	return durable.IgnoreMissing(b.root.Remove(name))
}

func (b *backupDir) put(ctx context.Context, blob sized) (damage string, err error) {
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
	if err := b.removeIfThere(tmp); err != nil { // of a backup that was interrupted
		return "", err
	}
	damage, err = b.transfer(ctx, blob, tmp)
	if err == nil && damage == "" {
		err = b.root.Rename(tmp, to)
	}
	if err != nil || damage != "" {
		return damage, errors.Join(err, b.removeIfThere(tmp))
	}
	return "", nil
}

// upToDate says that a file of the backup is of the right size and not older than the one in the storage.
// A blob never changes, but a damaged one is replaced: a backup of the damage is older than what healed it.
func (b *backupDir) upToDate(name string, source fs.FileInfo) bool {
	info, err := b.root.Lstat(name)
	return err == nil && info.Mode().IsRegular() && info.Size() == source.Size() && !info.ModTime().Before(source.ModTime())
}

func (b *backupDir) ensureDir(dir string) error {
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

// transfer brings a blob to a name of the backup in the cheapest way that there is.
func (b *backupDir) transfer(ctx context.Context, blob sized, to string) (damage string, err error) {
	from, damage, err := b.source(blob)
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
func (b *backupDir) clone(from *os.File, name string) (done bool, err error) {
	if b.noClone {
		return false, nil
	}
	to, err := b.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false, err
	}
	if err := unix.IoctlFileClone(int(to.Fd()), int(from.Fd())); err != nil {
		b.noClone = true // whatever it says, the other ways are as good
		return false, errors.Join(to.Close(), b.root.Remove(name))
	}
	b.report.Cloned++
	return true, durable.Finish(to, nil)
}

// link shares the file. Neither the store nor a backup ever writes to a blob in place. What is linked is what was
// opened: by its name, root could be given something else, such as a symbolic link.
func (b *backupDir) link(from *os.File, to string) bool {
	if b.noLink {
		return false
	}
	dir, err := b.root.Open(filepath.Dir(to))
	if err == nil {
		defer dir.Close()
		err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", from.Fd()), int(dir.Fd()), filepath.Base(to), unix.AT_SYMLINK_FOLLOW)
	}
	b.noLink = err != nil && !errors.Is(err, syscall.EMLINK) // which is about this file alone
	return err == nil
}

// copy reads, verifies and writes a blob.
func (b *backupDir) copy(ctx context.Context, blob sized, from io.Reader, name string) (damage string, err error) {
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

// pour copies a blob to w and says in what way it is not what its digest says. What is missing of it at the
// end is not made up for.
func (b *backup) pour(ctx context.Context, blob sized, from io.Reader, w io.Writer) (damage string, err error) {
	h := blob.digest.Algorithm().Hash()
	var read readError
	var told, done int64
	pace := func(ctx context.Context, n int) error {
		if done += int64(n); done-told >= progressBytes {
			told = done
			b.progress(done)
		}
		return b.pace(ctx, n)
	}
	n, err := throttle.Copy(ctx, io.MultiWriter(w, h), read.of(io.LimitReader(from, blob.size)), pace)
	switch {
	case blobfile.IsDamage(read.err) || errors.Is(read.err, io.ErrUnexpectedEOF): // the latter from a tar that is cut off
		return "its file cannot be read: " + read.err.Error(), nil
	case err != nil:
		return "", err
	case n != blob.size:
		return fmt.Sprintf("its file ended after %d of %d bytes", n, blob.size), nil
	}
	if got := digest.NewDigest(blob.digest.Algorithm(), h); got != blob.digest {
		return "its file hashes to " + got.String(), nil
	}
	b.report.Copied++
	b.report.CopiedBytes += n
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

// finish makes the names of the blobs durable and then puts the database in place.
func (b *backupDir) finish(ctx context.Context, snapshot *sql.DB) error {
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
	if err := b.root.Rename(backupTemporary, backupDatabase); err != nil {
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

// syncBackup syncs a directory, where the file system can and its mode lets us: a network share often cannot, and a backup
// there is better than none.
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

// prune removes the blobs that the database does not name, now that it is in place.
func (b *backupDir) prune(ctx context.Context, snapshot *sql.DB) error {
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		err := fs.WalkDir(b.root.FS(), a.String(), func(name string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && e.IsDir() {
				return nil
			}
			d := digest.NewDigestFromEncoded(a, strings.TrimSuffix(path.Base(name), ".tmp"))
			if err != nil || image.CheckDigest(d) != nil { // a name that is no digest is not ours to delete
				return err
			}
			named, err := sqlite.Exists(ctx, snapshot, `SELECT 1 FROM blobs WHERE digest = ?`, d)
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

func (b *backupDir) discard() error {
	return errors.Join(b.removeIfThere(backupTemporary), b.lock.Close(), b.root.Close())
}
