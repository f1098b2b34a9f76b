package host

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// File is a file with exactly this content, mode and owner.
type File struct {
	Host    *Host
	Path    string
	Content []byte
	Mode    fs.FileMode
	Owner   string // name of a user, who also lends its group, or user:lender of the group; empty: as it is

	previous *Kept // set when Apply began to change the file
}

func (s *File) String() string { return "write " + s.Path }

// Apply writes the file if its content differs, and only adjusts mode and owner if these differ.
func (s *File) Apply(context.Context) (bool, error) {
	owner, err := s.Host.owner(s.Owner)
	if err != nil {
		return false, err
	}
	info, err := s.Host.Stat(s.Path)
	same := err == nil && info.Mode.IsRegular() && info.Size == int64(len(s.Content))
	if same {
		content, err := s.Host.ReadFile(s.Path)
		if err != nil {
			return false, fmt.Errorf("read %s: %w", s.Path, err)
		}
		same = bytes.Equal(content, s.Content)
	}
	if same && info.Mode.Perm() == s.Mode.Perm() && info.Owner.satisfies(owner) {
		return false, nil
	}
	if s.previous, err = s.Host.Keep(s.Path); err != nil {
		return false, fmt.Errorf("write %s: %w", s.Path, err)
	}
	// A file of another user is written anew: that user may have it open.
	if same && (owner.UID < 0 || owner.UID == info.Owner.UID) {
		return true, s.Host.SetAttr(s.Path, s.Mode, owner)
	}
	return true, s.Host.Write(s.Path, bytes.NewReader(s.Content), s.Mode, owner)
}

// Undo restores the previous file.
func (s *File) Undo(context.Context) error { return restore(s.previous) }

// Close lets go of the previous content, after which Undo does nothing.
func (s *File) Close() error { return closeKept(&s.previous) }

// Attr is the mode and the owner of a file that is there, whatever it holds.
type Attr struct {
	Host  *Host
	Path  string
	Mode  fs.FileMode
	Owner string // as in File

	before *Info
}

func (s *Attr) String() string { return "set owner and mode of " + s.Path }

// Apply adjusts what differs.
func (s *Attr) Apply(context.Context) (bool, error) {
	owner, err := s.Host.owner(s.Owner)
	if err != nil {
		return false, err
	}
	info, err := s.Host.Stat(s.Path)
	if err == nil && !info.Mode.IsRegular() {
		err = &NotRegularError{Path: s.Path, Mode: info.Mode}
	}
	if err != nil || info.Mode.Perm() == s.Mode.Perm() && info.Owner.satisfies(owner) {
		return false, err
	}
	s.before = &info
	return true, s.Host.SetAttr(s.Path, s.Mode, owner)
}

// Undo gives the file its mode and owner back.
func (s *Attr) Undo(context.Context) error {
	if s.before == nil {
		return nil
	}
	return s.Host.SetAttr(s.Path, s.before.Mode, s.before.Owner)
}

// Binary is an executable copied from Source, a path of the calling process.
type Binary struct {
	Host   *Host
	Source string
	Path   string
	Owner  string // as in File

	previous *Kept
}

func (s *Binary) String() string { return "copy " + s.Source + " to " + s.Path }

// Apply replaces the executable if its content differs. A running one goes on running as it was.
func (s *Binary) Apply(context.Context) (bool, error) {
	source, err := os.Open(s.Source)
	if err != nil {
		return false, fmt.Errorf("copy the executable: %w", err)
	}
	defer source.Close()
	owner, err := s.Host.owner(s.Owner)
	if err != nil {
		return false, err
	}
	same, err := s.same(owner)
	if err != nil || same {
		return false, err
	}
	if s.previous, err = s.Host.Keep(s.Path); err != nil {
		return false, fmt.Errorf("replace the executable: %w", err)
	}
	return true, s.Host.Write(s.Path, source, 0o755, owner)
}

func (s *Binary) same(owner Owner) (bool, error) {
	info, err := s.Host.Stat(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || !info.Mode.IsRegular() || info.Mode.Perm() != 0o755 || !info.Owner.satisfies(owner) {
		return false, err
	}
	have, err := s.Host.Sum(s.Path)
	if err != nil {
		return false, err
	}
	want, err := sumFile(s.Source)
	return have == want, err
}

func sumFile(path string) ([sha256.Size]byte, error) { return Local().Sum(path) }

// Undo restores the previous executable.
func (s *Binary) Undo(context.Context) error { return restore(s.previous) }

// Close lets go of the previous executable, after which Undo does nothing.
func (s *Binary) Close() error { return closeKept(&s.previous) }

func restore(k *Kept) error {
	if k == nil {
		return nil
	}
	return k.Restore()
}

func closeKept(k **Kept) error {
	err := (*k).Close()
	*k = nil
	return err
}
