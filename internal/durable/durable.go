// Package durable holds what a file needs to survive a crash: a write that replaces the file
// as a whole, the sync of the file and of the directory that names it, and the lock that keeps
// a second process away.
//
// Use WriteFile for a file whose loss would matter, Replace for one that must only never be seen
// half written, and Finish at the end of a file that is written in pieces, with Behind if it is
// large. After a rename or a
// removal of one's own, use SyncDir or SyncRoot.
//
// Refused: one name for all temporary files, since each owner has its own rule for what a crash
// leaves (the store writes over a fixed name, several mirrors may run at once and need random
// ones), so the caller opens the temporary file and chooses its name and mode; a plain path in
// place of an os.Root, since the directory may belong to another user; a directory sync that
// ignores a file system without it, since an acknowledged push would then be a guess (a backup on a
// network share has its own, lenient one); and a lock that waits, since the reason to wait is
// better told to a person.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// WriteFile is Replace followed by SyncDir: after it, the new content survives a power cut.
func WriteFile(path string, tmp *os.File, data []byte) error {
	if err := Replace(path, tmp, data); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Replace writes data to tmp, an empty file in the same directory, syncs and closes it, and renames
// it to path. A reader sees the old content or the new. After an error, tmp is closed and removed.
func Replace(path string, tmp *os.File, data []byte) error {
	_, err := tmp.Write(data)
	if err = Finish(tmp, err); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// Finish syncs a file that was written, unless err says that the write failed, and closes it in any
// case. It returns err and the errors of its own.
func Finish(f *os.File, err error) error {
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// SyncDir makes the names in a directory durable.
func SyncDir(path string) error { return syncDir(os.Open(path)) }

// SyncRoot makes the names in the directory of root durable.
func SyncRoot(root *os.Root) error { return syncDir(root.Open(".")) }

func syncDir(dir *os.File, err error) error {
	if err == nil {
		err = Finish(dir, nil)
	}
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

// IgnoreMissing returns the error of a removal, and nil if there was nothing to remove.
func IgnoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// The kinds of lock: one holder of an Exclusive one, or any number of a Shared one.
const (
	Exclusive = unix.LOCK_EX
	Shared    = unix.LOCK_SH
)

// ErrLocked says that another open file has a lock that excludes the one wanted.
var ErrLocked = errors.New("locked by another process")

// Lock locks an open file or directory and does not wait. It fails with ErrLocked when the lock is
// taken, and with an *os.PathError where there are no locks. The lock ends when the file is closed.
func Lock(f *os.File, kind int) error {
	err := unix.Flock(int(f.Fd()), kind|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrLocked
	}
	if err != nil {
		return &os.PathError{Op: "flock", Path: f.Name(), Err: err}
	}
	return nil
}

// CheckWritable returns an error unless files can be made in a directory.
func CheckWritable(dir string) error {
	// As the effective user: a command of root's that became the owner of dir reaches it only so.
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("files cannot be made in %s: %w", dir, err)
	}
	return nil
}
