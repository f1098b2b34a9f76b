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

// Write puts what r gives at path: written beside it, synced, given mode and owner, renamed into place, and
// the directory synced. A reader sees the old file or the new one, whole. What a killed Write of the same
// path left is removed.
func (h *Host) Write(path string, r io.Reader, mode fs.FileMode, owner Owner) error {
	dir, name, err := h.dir(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if _, err := removeLeftovers(dir, name); err != nil {
		return err
	}
	tmp := leftoverPrefix(name) + rand.Text()[:8]
	// O_EXCL: nobody can have prepared a link at this name.
	f, err := dir.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := fill(f, r, mode, owner); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), dir.Remove(tmp))
	}
	if err := dir.Rename(tmp, name); err != nil {
		return errors.Join(err, dir.Remove(tmp))
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

// removeLeftovers removes the temporary files that killed Writes of a name left beside it.
func removeLeftovers(dir *os.Root, name string) (removed bool, err error) {
	entries, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		random, ok := strings.CutPrefix(e.Name(), leftoverPrefix(name))
		if !ok || len(random) != 8 {
			continue
		}
		if err := dir.Remove(e.Name()); err != nil {
			return removed, err
		}
		removed = true
	}
	return removed, nil
}

// Kept holds a file as it was, however its name is replaced or removed afterwards: an open file keeps its
// content, so nothing is left behind if the process dies.
type Kept struct {
	host *Host
	path string
	file *os.File // nil when there was no file
	info Info
}

// Keep remembers the regular file at path, or that there is none.
func (h *Host) Keep(path string) (*Kept, error) {
	info, err := h.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &Kept{host: h, path: path}, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode.IsRegular() {
		return nil, &NotRegularError{Path: path, Mode: info.Mode}
	}
	f, err := h.openFile(path, false)
	if err != nil {
		return nil, err
	}
	return &Kept{host: h, path: path, file: f, info: info}, nil
}

// Restore brings the file back, or removes what has come where none was.
func (k *Kept) Restore() error {
	if k.file == nil {
		if err := k.host.Remove(k.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if _, err := k.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return k.host.Write(k.path, k.file, k.info.Mode, k.info.Owner)
}

// Close lets go of the previous content.
func (k *Kept) Close() error {
	if k == nil || k.file == nil {
		return nil
	}
	return k.file.Close()
}

// NotRegularError says that something else than a file stands where a file is to be.
type NotRegularError struct {
	Path string
	Mode fs.FileMode
}

func (e *NotRegularError) Error() string {
	kind := "not a regular file"
	switch {
	case e.Mode&fs.ModeSymlink != 0:
		kind = "a symbolic link, not a file"
	case e.Mode.IsDir():
		kind = "a directory, not a file"
	}
	return fmt.Sprintf("%s is %s", e.Path, kind)
}

func (e *NotRegularError) Hint() string { return "move it away, then run the command again" }
