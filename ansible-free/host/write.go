package host

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/mirror-appliance/appliance/internal/durable"
)

// Write replaces the file at path by what r gives: it writes beside the file, syncs, sets mode and owner, renames, and
// syncs the directory. A reader sees the old file or the new one as a whole. Write removes what a killed Write of the same
// path left.
func (h *Host) Write(path string, r io.Reader, mode fs.FileMode, owner Owner) error {
	return h.replace(path, func(dir *os.Root, tmp string) error {
		// O_EXCL: the name cannot be a link.
		f, err := dir.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if err := fill(f, r, mode, owner); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		return nil
	})
}

// Relink makes a symbolic link at path that says target, in the place of a file or a link.
func (h *Host) Relink(target, path string) error {
	return h.replace(path, func(dir *os.Root, tmp string) error { return dir.Symlink(target, tmp) })
}

// replace has a temporary name made and renames it to path.
func (h *Host) replace(path string, make func(dir *os.Root, tmp string) error) error {
	dir, name, err := h.dir(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	left, err := leftovers(dir, name)
	if err != nil {
		return err
	}
	for _, name := range left {
		if err := dir.Remove(name); err != nil {
			return err
		}
	}
	tmp := leftoverPrefix(name) + rand.Text()[:8]
	err = make(dir, tmp)
	if err == nil {
		err = dir.Rename(tmp, name)
	}
	if err != nil {
		if gone := dir.Remove(tmp); !absent(gone) {
			err = errors.Join(err, gone)
		}
		return err
	}
	return durable.SyncRoot(dir)
}

func fill(f *os.File, r io.Reader, mode fs.FileMode, owner Owner) error {
	_, err := io.Copy(f, r)
	if err == nil {
		err = setAttr(f, mode, owner)
	}
	return durable.Finish(f, err)
}

func leftoverPrefix(name string) string { return "." + name + ".tmp-" }

// leftovers returns the temporary files beside a name that killed Writes have left.
func leftovers(dir *os.Root, name string) (left []string, err error) {
	entries, err := fs.ReadDir(dir.FS(), ".")
	for _, e := range entries {
		if random, ok := strings.CutPrefix(e.Name(), leftoverPrefix(name)); ok && len(random) == 8 {
			left = append(left, e.Name())
		}
	}
	return left, err
}
