package host

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// File is a file with exactly this content, mode and owner.
type File struct {
	Host    *Host       `json:"-"`
	Path    string      `json:"path"`
	Content []byte      `json:"-"`
	Source  string      `json:"source,omitempty"` // path, in this process, of the content, in the place of Content
	Mode    fs.FileMode `json:"-"`
	Owner   string      `json:"-"`                // a user, who also lends its group, or user:lender of the group; empty: as it is
	SHA256  string      `json:"sha256,omitempty"` // of the content; Check sets it

	attr bool // the content is right
}

func (s *File) String() string {
	if s.Source != "" {
		return "copy " + s.Source + " to " + s.Path
	}
	return "write " + s.Path
}

// Taken returns what Undo does for a file that was not there before.
func (s *File) Taken() string { return "remove " + s.Path }

// Check compares content, mode and owner.
func (s *File) Check(context.Context) (*Before, error) {
	owner, err := s.Host.owner(s.Owner)
	if err != nil {
		return nil, err
	}
	before, err := s.Host.look(s.Path)
	if err != nil {
		return nil, err
	}
	if before.Is != "" && before.Is != isFile {
		return nil, notRegular(s.Path, "a "+before.Is+", not a file")
	}
	if s.SHA256, err = s.sum(); err != nil || before.Is == "" {
		return before, err
	}
	have, err := s.Host.Sum(s.Path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.Path, err)
	}
	if have == s.SHA256 && before.has(s.Mode, owner) {
		return nil, nil
	}
	// A file of another user is written anew: that user may have it open.
	s.attr = have == s.SHA256 && (owner.UID < 0 || owner.UID == before.Owner.UID)
	before.keep = !s.attr
	return before, nil
}

func (s *File) sum() (string, error) {
	if s.Source != "" {
		return Local().Sum(s.Source)
	}
	return fmt.Sprintf("%x", sha256.Sum256(s.Content)), nil
}

// Apply writes the file, or sets mode and owner if only these differ. A program that runs goes on running as it was.
func (s *File) Apply(context.Context) (bool, error) {
	owner, err := s.Host.owner(s.Owner)
	if err != nil {
		return false, err
	}
	if s.attr {
		return true, s.Host.SetAttr(s.Path, s.Mode, owner)
	}
	content := io.Reader(bytes.NewReader(s.Content))
	if s.Source != "" {
		f, err := os.Open(s.Source)
		if err != nil {
			return false, fmt.Errorf("copy the executable: %w", err)
		}
		defer f.Close()
		content = f
	}
	return true, s.Host.Write(s.Path, content, s.Mode, owner)
}

// Undo brings the previous file back.
func (s *File) Undo(_ context.Context, before *Before) (bool, error) {
	return s.Host.putBack(s.Path, before)
}

// Attr is the mode and the owner of a file that is there, whatever its content.
type Attr struct {
	Host  *Host       `json:"-"`
	Path  string      `json:"path"`
	Mode  fs.FileMode `json:"-"`
	Owner string      `json:"-"` // as in File
}

func (s *Attr) String() string { return "set owner and mode of " + s.Path }

// Check compares mode and owner.
func (s *Attr) Check(context.Context) (*Before, error) {
	owner, err := s.Host.owner(s.Owner)
	if err != nil {
		return nil, err
	}
	before, err := s.Host.look(s.Path)
	switch {
	case err != nil:
		return nil, err
	case before.Is == "":
		return nil, &fs.PathError{Op: "open", Path: s.Path, Err: fs.ErrNotExist}
	case before.Is != isFile:
		return nil, notRegular(s.Path, "a "+before.Is+", not a file")
	case before.has(s.Mode, owner):
		return nil, nil
	}
	return before, nil
}

// Apply sets mode and owner.
func (s *Attr) Apply(context.Context) (bool, error) {
	owner, err := s.Host.owner(s.Owner)
	if err != nil {
		return false, err
	}
	return true, s.Host.SetAttr(s.Path, s.Mode, owner)
}

// Undo gives the file its mode and owner back.
func (s *Attr) Undo(_ context.Context, before *Before) (bool, error) {
	return s.Host.putBack(s.Path, before)
}

// Remove is a file or symbolic link that does not exist, nor do the temporary files that a killed write of it left.
type Remove struct {
	Host *Host  `json:"-"`
	Path string `json:"path"`
}

func (s *Remove) String() string { return "remove " + s.Path }

// Check looks for the file.
func (s *Remove) Check(context.Context) (*Before, error) {
	before, err := s.Host.look(s.Path)
	if err != nil {
		return nil, err
	}
	left, err := s.Host.leftovers(s.Path)
	if err != nil || before.Is == "" && len(left) == 0 {
		return nil, err
	}
	before.keep = before.Is == isFile
	return before, nil
}

// Apply removes the file.
func (s *Remove) Apply(context.Context) (bool, error) { return s.Host.Remove(s.Path) }

// Undo brings the file back.
func (s *Remove) Undo(_ context.Context, before *Before) (bool, error) {
	return s.Host.putBack(s.Path, before)
}

// Link is a symbolic link that says Target, in the place of a file if there is one.
type Link struct {
	Host   *Host  `json:"-"`
	Path   string `json:"path"`
	Target string `json:"target"`
}

func (s *Link) String() string { return "link " + s.Path + " to " + s.Target }

// Taken returns what Undo does for a link that was not there before.
func (s *Link) Taken() string { return "remove " + s.Path }

// Check reads the link.
func (s *Link) Check(context.Context) (*Before, error) {
	before, err := s.Host.look(s.Path)
	if err != nil || before.Is == isLink && before.Target == s.Target {
		return nil, err
	}
	if before.Is == isDirectory {
		return nil, notRegular(s.Path, "a directory, not a file")
	}
	before.keep = before.Is == isFile
	return before, nil
}

// Apply makes the link.
func (s *Link) Apply(context.Context) (bool, error) { return true, s.Host.Relink(s.Target, s.Path) }

// Undo brings back what was there.
func (s *Link) Undo(_ context.Context, before *Before) (bool, error) {
	return s.Host.putBack(s.Path, before)
}

// absent reports whether an error says that there is no such file.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
