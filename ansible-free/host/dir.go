package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/mirror-appliance/appliance/internal/durable"
)

// Dir is a directory. Its parent must exist: see Missing.
type Dir struct {
	Host  *Host
	Path  string
	Mode  fs.FileMode
	Owner string // as in File
	// Keep leaves the mode and the owner of an existing directory alone.
	Keep bool
	// Whole makes Undo remove a directory that Apply created with all that came into it: nobody but us
	// was told of it. Otherwise Undo leaves a directory that is no longer empty.
	Whole bool

	created  bool
	previous *Info
}

func (s *Dir) String() string { return "make directory " + s.Path }

// Apply makes the directory, or adjusts the mode and owner of the one that exists.
func (s *Dir) Apply(context.Context) (bool, error) {
	owner, err := s.Host.owner(s.Owner)
	if err != nil {
		return false, err
	}
	info, err := s.Host.StatTarget(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.Host.Mkdir(s.Path, s.Mode, owner); err != nil {
			return false, fmt.Errorf("make directory: %w", err)
		}
		s.created = true
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if !info.Mode.IsDir() {
		return false, fmt.Errorf("%s is a file, not a directory", s.Path)
	}
	if s.Keep || info.Mode.Perm() == s.Mode.Perm() && info.Owner.satisfies(owner) {
		return false, nil
	}
	s.previous = &info
	return true, s.Host.SetDirAttr(s.Path, s.Mode, owner)
}

// Undo removes the directory if Apply made it, or gives it back its mode and owner.
func (s *Dir) Undo(ctx context.Context) error {
	switch {
	case s.created && s.Whole:
		return s.Host.RemoveTree(ctx, s.Path)
	case s.created:
		_, err := s.Host.removeEmpty(s.Path)
		return err
	case s.previous != nil:
		return s.Host.SetDirAttr(s.Path, s.previous.Mode, s.previous.Owner)
	}
	return nil
}

// Missing lists those of path and its parents that do not exist, outermost first.
func (h *Host) Missing(path string) ([]string, error) {
	var missing []string
	for p := filepath.Clean(path); ; p = filepath.Dir(p) {
		ok, err := h.Exists(p)
		if err != nil {
			return nil, err
		}
		if ok || p == filepath.Dir(p) {
			break
		}
		missing = append(missing, p)
	}
	slices.Reverse(missing)
	return missing, nil
}

// removeEmpty removes a directory if it is empty, absent or not: it says whether it removed it. A mount
// point stays, since whoever mounted it wants it.
func (h *Host) removeEmpty(path string) (bool, error) {
	dir, name, err := h.dir(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("remove directory %s: %w", path, err)
	}
	defer dir.Close()
	if fi, err := dir.Lstat(name); err != nil || !fi.IsDir() {
		return false, nil
	}
	err = dir.Remove(name)
	switch {
	case err == nil:
		return true, durable.SyncRoot(dir)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTEMPTY), errors.Is(err, syscall.EEXIST), errors.Is(err, syscall.EBUSY):
		return false, nil
	}
	return false, fmt.Errorf("remove directory %s: %w", path, err)
}
