package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// Take is a directory, and the files in it, that are no longer their owner's: the directory changes hands first, and then
// each file of another user is written anew, since that user may have it open. Where the owner may read a file, the new
// group may. Mode and owner of what is root's already stay.
type Take struct {
	Host  *Host
	Path  string
	Owner string // as in File

	dir   *Info
	files []taken
}

type taken struct {
	path string
	info Info
}

func (s *Take) String() string { return "take " + s.Path + " and the files in it from the service" }

// Apply takes what is another's.
func (s *Take) Apply(context.Context) (bool, error) {
	owner, err := s.Host.owner(s.Owner)
	if err != nil {
		return false, err
	}
	info, err := s.Host.StatTarget(s.Path)
	if err != nil {
		return false, err
	}
	if info.Owner.UID != owner.UID || info.Mode.Perm()&0o022 != 0 {
		if err := s.Host.SetDirAttr(s.Path, info.Mode.Perm()&^0o022, owner); err != nil {
			return false, err
		}
		s.dir = &info
	}
	names, err := s.Host.Names(s.Path)
	if err != nil {
		return s.dir != nil, err
	}
	for _, name := range names {
		if err := s.file(filepath.Join(s.Path, name), owner); err != nil {
			return true, err
		}
	}
	return s.dir != nil || len(s.files) > 0, nil
}

func (s *Take) file(path string, owner Owner) error {
	info, err := s.Host.Stat(path)
	if err != nil || info.Owner.UID == owner.UID {
		return err
	}
	if !info.Mode.IsRegular() {
		return &NotRegularError{Path: path, Mode: info.Mode}
	}
	content, err := s.Host.ReadFile(path)
	if err != nil {
		return err
	}
	s.files = append(s.files, taken{path, info})
	mode := info.Mode.Perm() &^ 0o022
	return s.Host.Write(path, bytes.NewReader(content), mode|mode>>3&0o040, owner)
}

// Undo gives everything back.
func (s *Take) Undo(context.Context) error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, s.Host.SetAttr(f.path, f.info.Mode, f.info.Owner))
	}
	if s.dir != nil {
		errs = append(errs, s.Host.SetDirAttr(s.Path, s.dir.Mode, s.dir.Owner))
	}
	return errors.Join(errs...)
}

// Link is a symbolic link that says Target, in the place of a file if one is there.
type Link struct {
	Host   *Host
	Path   string
	Target string

	made     bool
	previous *Kept
	before   string // what the link said that was there
}

func (s *Link) String() string { return "link " + s.Path + " to " + s.Target }

// Apply makes the link.
func (s *Link) Apply(context.Context) (bool, error) {
	info, err := s.Host.Stat(s.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return false, err
	case info.Mode&fs.ModeSymlink != 0:
		if s.before, err = s.Host.Readlink(s.Path); err != nil || s.before == s.Target {
			return false, err
		}
	default:
		if s.previous, err = s.Host.Keep(s.Path); err != nil {
			return false, fmt.Errorf("link %s: %w", s.Path, err)
		}
	}
	s.made = true
	return true, s.Host.Relink(s.Target, s.Path)
}

// Undo brings back what was there.
func (s *Link) Undo(context.Context) error {
	switch {
	case !s.made:
		return nil
	case s.previous != nil:
		return s.previous.Restore()
	case s.before != "":
		return s.Host.Relink(s.before, s.Path)
	}
	if err := s.Host.Remove(s.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Close lets go of the file that was there, after which Undo does nothing for it.
func (s *Link) Close() error { return closeKept(&s.previous) }
