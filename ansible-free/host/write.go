package host

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
)

// mkdir makes one directory, or fails with fs.ErrExist. Its parent must exist. A directory that
// exists has its mode and owner, also after a kill.
func (h *Host) mkdir(path string, mode fs.FileMode, owner Owner) error {
	if ok, err := h.Exists(path); err != nil {
		return err
	} else if ok {
		return &fs.PathError{Op: "mkdir", Path: path, Err: fs.ErrExist}
	}
	return h.replace(path, func(dir *os.Root, tmp string) error { return mkdirIn(dir, tmp, mode, owner) })
}

func mkdirIn(dir *os.Root, name string, mode fs.FileMode, owner Owner) error {
	if err := dir.Mkdir(name, 0o700); err != nil {
		return err
	}
	f, err := dir.OpenFile(name, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	return errors.Join(setAttr(f, mode, owner), f.Close())
}

// setFileAttr sets mode and owner of a regular file. It rejects a link in its place, and a file of
// another owner with several names: in the service's directory, it may be any file of the host.
func (h *Host) setFileAttr(path string, mode fs.FileMode, owner Owner) error {
	return h.withFile(path, false, func(f *os.File, fi fs.FileInfo) error {
		if !fi.Mode().IsRegular() {
			return notRegular(path, "not a regular file")
		}
		if !infoOf(fi).Owner.satisfies(owner) {
			if err := oneName(path, fi); err != nil {
				return err
			}
		}
		return setAttr(f, mode, owner)
	})
}

// setDirAttr is setFileAttr for a directory, or for the one that a link at path leads to.
func (h *Host) setDirAttr(path string, mode fs.FileMode, owner Owner) error {
	return h.withFile(path, true, func(f *os.File, fi fs.FileInfo) error {
		if !fi.IsDir() {
			return &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR}
		}
		return setAttr(f, mode, owner)
	})
}

// setAttr changes the owner and then the mode, which chown may have reduced. It works on a
// descriptor of O_PATH.
func setAttr(f *os.File, mode fs.FileMode, owner Owner) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if infoOf(fi).Owner.satisfies(owner) {
		if fi.Mode()&modeBits == mode&modeBits {
			return nil
		}
	} else if err := chown(f, owner); err != nil {
		return err
	}
	return named(f, os.Chmod(reopen(f), mode))
}

func chown(f *os.File, owner Owner) error {
	const flags = unix.AT_EMPTY_PATH | unix.AT_SYMLINK_NOFOLLOW
	if err := unix.Fchownat(int(f.Fd()), "", owner.UID, owner.GID, flags); err != nil {
		return &fs.PathError{Op: "chown", Path: f.Name(), Err: err}
	}
	return nil
}

var errHardLink = errors.New("(hard links), and its owner is not changed")

// oneName rejects a file with more names than one: the others may be in directories of root's.
func oneName(path string, fi fs.FileInfo) error {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && !fi.IsDir() && st.Nlink > 1 {
		return hint.New(fmt.Errorf("%s has other names %w", path, errHardLink),
			"find them: find / -samefile "+path+"; put a copy in its place if it belongs there")
	}
	return nil
}

// satisfies reports whether o is what want demands.
func (o Owner) satisfies(want Owner) bool {
	return (want.UID < 0 || want.UID == o.UID) && (want.GID < 0 || want.GID == o.GID)
}

// Write replaces the file at path: it writes beside the file, syncs, sets mode and owner, renames,
// and syncs the directory.
func (h *Host) Write(path string, r io.Reader, mode fs.FileMode, owner Owner) error {
	return h.replace(path, func(dir *os.Root, tmp string) error {
		// O_EXCL: the name cannot be a link.
		f, err := dir.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if _, err = io.Copy(f, r); err == nil {
			err = setAttr(f, mode, owner)
		}
		if err = durable.Finish(f, err); err == nil {
			return nil
		}
		if failed := new(fs.PathError); errors.As(err, &failed) && failed.Path == f.Name() {
			err = failed.Err // its path is by a descriptor
		}
		err = fmt.Errorf("write %s: %w", path, err)
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			return hint.New(err, "make room there, then run the command again: df -h "+filepath.Dir(path))
		}
		return err
	})
}

// relink makes a symbolic link at path that says target, in the place of a file or a link.
func (h *Host) relink(target, path string) error {
	return h.replace(path, func(dir *os.Root, tmp string) error { return dir.Symlink(target, tmp) })
}

// replace has a temporary name made and renames it to path. It removes what killed runs of it have
// left of the same path.
func (h *Host) replace(path string, make func(dir *os.Root, tmp string) error) error {
	dir, name, err := h.dir(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if _, err := removeLeftovers(dir, name); err != nil {
		return err
	}
	tmp := leftoverPrefix(name) + rand.Text()[:8]
	if err = make(dir, tmp); err == nil {
		err = dir.Rename(tmp, name)
	}
	if err != nil {
		return errors.Join(err, dir.RemoveAll(tmp))
	}
	return durable.SyncRoot(dir)
}

func leftoverPrefix(name string) string { return "." + name + ".tmp-" }

// removeLeftovers removes what killed runs of replace have left beside a name.
func removeLeftovers(dir *os.Root, name string) (removed bool, err error) {
	left, err := leftovers(dir, name)
	for _, name := range left {
		if err := dir.RemoveAll(name); err != nil {
			return removed, err
		}
		removed = true
	}
	return removed, err
}

func leftovers(dir *os.Root, name string) (left []string, err error) {
	entries, err := fs.ReadDir(dir.FS(), ".")
	for _, e := range entries {
		random, ok := strings.CutPrefix(e.Name(), leftoverPrefix(name))
		if ok && len(random) == 8 {
			left = append(left, e.Name())
		}
	}
	return left, err
}
