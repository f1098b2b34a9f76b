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
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// backupDir is a backup that is a directory.
type backupDir struct {
	*backup
	root    string
	lock    *os.File
	dirs    map[string]bool // directories with new names in them, to be synced
	noClone bool            // the file system cannot, so nobody need try again
	noLink  bool
}

func (b *backup) openDir(root string) (_ *backupDir, err error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("make backup directory: %w", err)
	}
	if err := b.mayWrite(root); err != nil {
		return nil, err
	}
	lock, err := lockBackup(root, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	return &backupDir{backup: b, root: root, lock: lock, dirs: map[string]bool{}}, nil
}

// mayWrite refuses directories of a live store: a backup that was put in the place of an open database
// would be the end of it.
func (b *backup) mayWrite(root string) error {
	if _, err := os.Lstat(filepath.Join(root, backupDatabase+".lock")); err == nil {
		return &BackupError{Path: root, Why: "holds the database of a store", hint: ownDirectory}
	}
	return b.notInStorage(root)
}

const ownDirectory = "give a directory of its own to the backup, best on another file system"

func (b *backup) notInStorage(root string) error {
	storage, err := os.Stat(b.store.files.root)
	if err != nil {
		return err
	}
	for dir := root; ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && os.SameFile(info, storage) {
			return &BackupError{Path: root, Why: "is in the storage itself", hint: ownDirectory}
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// lockBackup keeps two from writing, or one from reading while the other writes. Where a file system knows
// no locks, nobody is kept.
func lockBackup(path string, how int) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errors.Join(&BackupError{Path: path, Why: "is in use by another backup or restore",
			hint: "wait until that has ended; `fuser " + path + "` names the process"}, f.Close())
	}
	return f, nil
}

func (b *backupDir) database() string            { return filepath.Join(b.root, backupDatabase) }
func (b *backupDir) snapshot() string            { return b.database() + ".tmp" }
func (b *backupDir) begin(context.Context) error { return nil }

// backupName is where in a backup the bytes of d are.
func backupName(d digest.Digest) string {
	hex := d.Encoded()
	return filepath.Join(d.Algorithm().String(), hex[:2], hex)
}

func (b *backupDir) put(ctx context.Context, blob sized) (damage string, err error) {
	seen, err := b.store.inspect(ctx, blob, false, b.pace)
	if err != nil || seen.damage != "" {
		return seen.damage, err
	}
	to := filepath.Join(b.root, backupName(blob.digest))
	if upToDate(to, seen.info) {
		b.report.Kept++
		return "", nil
	}
	if err := b.ensureDir(filepath.Dir(to)); err != nil {
		return "", err
	}
	tmp := to + ".tmp"
	if err := removeIfThere(tmp); err != nil { // of a backup that was interrupted
		return "", err
	}
	damage, err = b.transfer(ctx, blob, tmp)
	if err == nil && damage == "" {
		err = os.Rename(tmp, to)
	}
	if err != nil || damage != "" {
		return damage, errors.Join(err, removeIfThere(tmp))
	}
	return "", nil
}

// upToDate says that a file of the backup is of the right size and not older than the one in the storage.
// A blob never changes, but a damaged one is replaced: a backup of the damage is older than what healed it.
func upToDate(path string, source fs.FileInfo) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() == source.Size() && !info.ModTime().Before(source.ModTime())
}

func (b *backupDir) ensureDir(dir string) error {
	if b.dirs[dir] {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for d := dir; len(d) >= len(b.root) && !b.dirs[d]; d = filepath.Dir(d) {
		b.dirs[d] = true
	}
	return nil
}

// transfer brings a blob to a path of the backup in the cheapest way that there is.
func (b *backupDir) transfer(ctx context.Context, blob sized, to string) (damage string, err error) {
	from, err := os.Open(b.store.files.blob(blob.digest))
	if err != nil {
		return lost(err)
	}
	defer from.Close()
	if done, err := b.clone(from, to); done || err != nil {
		return "", err
	}
	if b.link(from.Name(), to) {
		b.report.Linked++
		return "", nil
	}
	return b.copy(ctx, blob, from, to)
}

// lost tells damage from other errors, of a file that was there a moment ago.
func lost(err error) (string, error) {
	if errors.Is(err, fs.ErrNotExist) || isDamage(err) {
		return "its file cannot be read: " + err.Error(), nil
	}
	return "", err
}

// clone shares the blocks of a file, where the file system can.
func (b *backupDir) clone(from *os.File, path string) (done bool, err error) {
	if b.noClone {
		return false, nil
	}
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return false, err
	}
	if err := unix.IoctlFileClone(int(to.Fd()), int(from.Fd())); err != nil {
		b.noClone = true // whatever it says, the other ways are as good
		return false, errors.Join(to.Close(), os.Remove(path))
	}
	b.report.Cloned++
	return true, errors.Join(to.Sync(), to.Close())
}

// link shares the file. Neither the store nor a backup ever writes to a blob in place.
func (b *backupDir) link(from, to string) bool {
	if b.noLink {
		return false
	}
	err := os.Link(from, to)
	b.noLink = err != nil && !errors.Is(err, syscall.EMLINK) // which is about this file alone
	return err == nil
}

// copy reads, verifies and writes a blob.
func (b *backupDir) copy(ctx context.Context, blob sized, from io.Reader, path string) (damage string, err error) {
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
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
	n, err := io.CopyBuffer(onlyWriter{io.MultiWriter(w, h)}, read.of(pacedReader(ctx, io.LimitReader(from, blob.size), b.pace)), make([]byte, copyBuffer))
	switch {
	case isDamage(read.err) || errors.Is(read.err, io.ErrUnexpectedEOF): // the latter from a tar that is cut off
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
	return readerFunc(func(p []byte) (int, error) {
		n, err := r.Read(p)
		if err != nil && !errors.Is(err, io.EOF) {
			e.err = err
		}
		return n, err
	})
}

// finish makes the names of the blobs durable and then puts the database in place.
func (b *backupDir) finish(ctx context.Context, snapshot *sql.DB) error {
	b.dirs[b.root], b.dirs[filepath.Dir(b.root)] = true, true
	for dir := range b.dirs {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := os.Rename(b.snapshot(), b.database()); err != nil {
		return err
	}
	if err := syncDir(b.root); err != nil {
		return err
	}
	if !b.options.Prune {
		return nil
	}
	return b.prune(ctx, snapshot)
}

// prune removes the blobs that the database does not name, now that it is in place.
func (b *backupDir) prune(ctx context.Context, snapshot *sql.DB) error {
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		err := filepath.WalkDir(filepath.Join(b.root, a.String()), func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && e.IsDir() {
				return nil
			}
			d := digest.NewDigestFromEncoded(a, strings.TrimSuffix(filepath.Base(path), ".tmp"))
			if err != nil || checkDigest(d) != nil { // a name that is no digest is not ours to delete
				return err
			}
			named, err := exists(ctx, snapshot, `SELECT 1 FROM blobs WHERE digest = ?`, d)
			if err != nil || named && path == filepath.Join(b.root, backupName(d)) {
				return err
			}
			b.report.Pruned++
			return os.Remove(path)
		})
		if err != nil {
			return fmt.Errorf("prune: %w", err)
		}
	}
	return nil
}

func (b *backupDir) discard() error {
	return errors.Join(removeIfThere(b.snapshot()), b.lock.Close())
}
