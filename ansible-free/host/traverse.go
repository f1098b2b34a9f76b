package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
)

// Traverse lets a user reach Path: each directory above it that the user may not search gets an entry in
// its access list, for this user and for searching only. A home directory (0700) thus stays closed to
// everyone else, and to this user too but for passing through.
type Traverse struct {
	Host *Host
	Path string
	User string

	changed []savedACL
}

type savedACL struct {
	dir string
	acl acl
}

func (s *Traverse) String() string { return "let " + s.User + " pass through to " + s.Path }

// Apply adds the entries that are missing.
func (s *Traverse) Apply(context.Context) (bool, error) {
	user, err := s.Host.User(s.User)
	if err != nil {
		return false, err
	}
	closed, err := s.Host.Closed(s.Path, user)
	if err != nil {
		return false, err
	}
	for _, dir := range closed {
		before, err := s.Host.readACL(dir)
		if err != nil {
			return true, err
		}
		s.changed = append(s.changed, savedACL{dir, before})
		if err := s.Host.writeACL(dir, before.letting(user.UID)); err != nil {
			return true, err
		}
	}
	return len(closed) > 0, nil
}

// Undo brings the access lists back.
func (s *Traverse) Undo(context.Context) error {
	var errs []error
	for _, saved := range s.changed {
		errs = append(errs, s.Host.writeACL(saved.dir, saved.acl))
	}
	return errors.Join(errs...)
}

// Untraverse is the entries of Traverse gone.
type Untraverse struct {
	Host *Host
	Path string
	User string
}

func (s *Untraverse) String() string { return "no longer let " + s.User + " pass through to " + s.Path }

// Apply removes every entry of the user from the directories above Path.
func (s *Untraverse) Apply(context.Context) (bool, error) {
	user, err := s.Host.User(s.User)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	changed := false
	for _, dir := range s.Host.above(s.Path) {
		a, err := s.Host.readACL(dir)
		if errors.Is(err, ErrNoACL) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return changed, err
		}
		if _, ok := a.perm(aclUser, user.UID); !ok {
			continue
		}
		if err := s.Host.writeACL(dir, a.without(user.UID)); err != nil {
			return changed, err
		}
		changed = true
	}
	return changed, nil
}

// Undo does nothing: the next install adds the entries again.
func (s *Untraverse) Undo(context.Context) error { return nil }

// Closed lists the existing directories above path that user may not search, outermost first.
func (h *Host) Closed(path string, user Owner) ([]string, error) {
	var closed []string
	for _, dir := range h.above(path) {
		info, err := h.StatTarget(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		a, err := h.readACL(dir)
		if errors.Is(err, ErrNoACL) {
			a, err = minimalACL(info.Mode), nil
		}
		if err != nil {
			return nil, fmt.Errorf("who may search %s: %w", dir, err)
		}
		if !a.lets(user, info.Owner) {
			closed = append(closed, dir)
		}
	}
	return closed, nil
}

// above lists the directories that a process passes through to get to path, with those that symbolic
// links lead through, outermost first.
func (h *Host) above(path string) []string {
	var dirs []string
	add := func(path string) {
		var chain []string
		for p := filepath.Dir(path); ; p = filepath.Dir(p) {
			chain = append(chain, p)
			if p == filepath.Dir(p) {
				break
			}
		}
		slices.Reverse(chain)
		for _, p := range chain {
			if !slices.Contains(dirs, p) {
				dirs = append(dirs, p)
			}
		}
	}
	add(filepath.Clean(path))
	if h.root == "" {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			add(real)
		} else if real, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
			add(filepath.Join(real, filepath.Base(path)))
		}
	}
	return dirs
}
