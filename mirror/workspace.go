package mirror

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/resources"
)

// workspace has the documents of a mirror in the directory working-dir below it: what collectors
// read and keep, cluster resources, logs and reports, under oc-mirror's names.
//
// A reader never sees half of a file, and two writers do not disturb each other. Directories are
// not synced: a workspace may be on a network share, where that is not possible.
type workspace struct{ dir string }

func (w workspace) path(name string) string {
	return filepath.Join(w.dir, "working-dir", filepath.FromSlash(name))
}

// unwritten returns the error of a write.
func (w workspace) unwritten(err error) error {
	wrapped := fmt.Errorf("write to the workspace: %w", err)
	if next := full(w.dir, err); next != "" {
		return hint.New(wrapped, next)
	}
	return wrapped
}

// full is what to do about a file system without space for a file of dir, "" for another error.
func full(dir string, err error) string {
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return ""
	}
	return "free space and inodes there (df -h " + dir + "; df -i " + dir + "), and run the same command again: what has arrived is not fetched again"
}

// check returns an error if documents cannot be written, before hours of copying.
func (w workspace) check() error {
	err := os.MkdirAll(w.path(""), 0o755)
	if err == nil {
		err = durable.CheckWritable(w.path(""))
	}
	if err != nil {
		return hint.New(w.unwritten(err), cmp.Or(full(w.dir, err), "name a directory that you may write to"))
	}
	return nil
}

// Read reads a document.
func (w workspace) Read(name string) ([]byte, error) { return os.ReadFile(w.path(name)) }

// List returns the names of the documents in a directory, none if there is no such directory.
func (w workspace) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(w.path(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// Write writes a document and the directories above it. fs.ErrInvalid for a name with "..".
func (w workspace) Write(name string, data []byte) error {
	if !fs.ValidPath(name) {
		return fmt.Errorf("%q is not a name for a file in the workspace: %w", name, fs.ErrInvalid)
	}
	if err := writeFile(w.path(name), data); err != nil {
		return w.unwritten(err)
	}
	return nil
}

func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp, err := os.OpenFile(path+"."+rand.Text()+".tmp", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	return durable.Replace(path, tmp, data)
}

// replace puts a directory of files in the place of another, whatever that has, and returns their
// paths. No mix of old and new files is ever seen; a crash between the two renames leaves the old
// ones in dir.old and the new ones in dir.next.
func (w workspace) replace(dir string, files []resources.File) (paths []string, err error) {
	at := w.path(dir)
	if err := errors.Join(os.RemoveAll(at+".next"), os.MkdirAll(at+".next", 0o755)); err != nil {
		return nil, w.unwritten(err)
	}
	for _, f := range files {
		if err := w.Write(dir+".next/"+f.Name, f.Data); err != nil {
			return nil, err
		}
		paths = append(paths, filepath.Join(at, f.Name))
	}
	if err := swap(at+".next", at); err != nil {
		return nil, w.unwritten(err)
	}
	return paths, nil
}

// swap puts the directory next in the place of dir. What another user has made of dir may stay
// beside it: root that mirrors into a user's workspace must not stop that user's next run.
func swap(next, dir string) error {
	old := dir + ".old"
	if err := os.RemoveAll(old); errors.Is(err, fs.ErrPermission) {
		old += "-" + rand.Text()
	} else if err != nil {
		return err
	}
	if err := os.Rename(dir, old); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.Rename(next, dir); err != nil {
		if back := os.Rename(old, dir); back != nil && !os.IsNotExist(back) {
			err = errors.Join(err, back)
		}
		return err
	}
	if err := os.RemoveAll(old); !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}
