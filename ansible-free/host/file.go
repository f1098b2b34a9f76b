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

// Dir is a directory. Its parent must exist: see Missing.
type Dir struct {
	Host  *Host       `json:"-"`
	Path  string      `json:"path"`
	Mode  fs.FileMode `json:"mode"`
	Owner string      `json:"owner,omitempty"` // as in File
	// Keep leaves the mode and the owner of an existing directory alone.
	Keep bool `json:"keep,omitempty"`
	// Whole has Undo remove the directory with its content, which is the appliance's.
	Whole bool `json:"whole,omitempty"`

	owner Owner // that Check has found
}

func (s *Dir) String() string { return "make directory " + s.Path }

// Taken returns what Undo does, as an imperative.
func (s *Dir) Taken() string {
	if s.Whole {
		return "remove " + s.Path
	}
	return "remove directory " + s.Path + " if it is empty, or give it its owner and mode back"
}

// Check compares the directory, or the one that a link leads to.
func (s *Dir) Check(context.Context) (*Before, error) {
	var err error
	if s.owner, err = s.Host.owner(s.Owner); err != nil {
		return nil, err
	}
	info, err := s.Host.StatTarget(s.Path)
	if absent(err) {
		return &Before{}, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode.IsDir() {
		return nil, fmt.Errorf("%s is a file, not a directory", s.Path)
	}
	before := &Before{Is: isDirectory, Mode: modeOf(info), Owner: info.Owner}
	if s.Keep || before.has(s.Mode, s.owner) {
		return nil, nil
	}
	return before, nil
}

// Apply makes the directory, or sets mode and owner of the one that exists.
func (s *Dir) Apply(context.Context) (bool, error) {
	err := s.Host.mkdir(s.Path, s.Mode, s.owner)
	if errors.Is(err, fs.ErrExist) {
		return true, s.Host.setDirAttr(s.Path, s.Mode, s.owner)
	}
	return err == nil, err
}

// Undo removes the directory if Apply made it. Otherwise it gives it its mode and owner back,
// unless another user has it by now.
func (s *Dir) Undo(ctx context.Context, before *Before) (bool, error) {
	if before.Is == "" {
		if s.Whole {
			return s.Host.RemoveTree(ctx, s.Path)
		}
		return s.Host.removeEmpty(s.Path)
	}
	info, err := s.Host.StatTarget(s.Path)
	if absent(err) || err == nil && modeOf(info) == before.Mode && info.Owner == before.Owner {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	owner, err := s.Host.owner(s.Owner)
	if err != nil || owner.UID >= 0 && owner.UID != info.Owner.UID {
		return false, nil
	}
	return true, s.Host.setDirAttr(s.Path, before.Mode, before.Owner)
}

// File is a file with exactly this content, mode and owner.
type File struct {
	Host    *Host       `json:"-"`
	Path    string      `json:"path"`
	Content []byte      `json:"-"`
	Source  string      `json:"source,omitempty"` // path, in this process, of the content
	Mode    fs.FileMode `json:"-"`
	// Owner is a user, who also lends its group, or user:lender of the group; empty: as it is.
	Owner  string `json:"-"`
	SHA256 string `json:"sha256,omitempty"` // of the content; Check sets it
	// AnyContent leaves the content alone. The file must exist.
	AnyContent bool `json:"-"`

	attr  bool  // the content is right
	owner Owner // that Check has found
}

func (s *File) String() string {
	if s.AnyContent {
		return "set owner and mode of " + s.Path
	}
	if s.Source != "" {
		return "copy " + s.Source + " to " + s.Path
	}
	return "write " + s.Path
}

// Taken returns what Undo does for a file that was not there before.
func (s *File) Taken() string { return "remove " + s.Path }

// Check compares content, mode and owner.
func (s *File) Check(context.Context) (*Before, error) {
	var err error
	if s.owner, err = s.Host.owner(s.Owner); err != nil {
		return nil, err
	}
	before, err := s.Host.look(s.Path)
	if err != nil {
		return nil, err
	}
	if before.Is != "" && before.Is != isFile {
		return nil, notRegular(s.Path, "a "+before.Is+", not a file")
	}
	have := ""
	if !s.AnyContent {
		if s.SHA256, err = s.sum(); err != nil || before.Is == "" {
			return before, err
		}
		if have, err = s.Host.Sum(s.Path); err != nil {
			return nil, fmt.Errorf("read %s: %w", s.Path, err)
		}
	} else if before.Is == "" {
		return nil, &fs.PathError{Op: "open", Path: s.Path, Err: fs.ErrNotExist}
	}
	if have == s.SHA256 && before.has(s.Mode, s.owner) {
		return nil, nil
	}
	// A file of another user is written anew: that user may have it open.
	s.attr = s.AnyContent || have == s.SHA256 && (s.owner.UID < 0 || s.owner.UID == before.Owner.UID)
	before.keep = !s.attr
	return before, nil
}

func (s *File) sum() (string, error) {
	if s.Source != "" {
		return Local().Sum(s.Source)
	}
	return fmt.Sprintf("%x", sha256.Sum256(s.Content)), nil
}

// Apply writes the file, or sets mode and owner if only these differ. A program that runs goes on
// running as it was.
func (s *File) Apply(context.Context) (bool, error) {
	if s.attr {
		return true, s.Host.setFileAttr(s.Path, s.Mode, s.owner)
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
	return true, s.Host.Write(s.Path, content, s.Mode, s.owner)
}

// Undo brings the previous file back.
func (s *File) Undo(_ context.Context, before *Before) (bool, error) {
	return s.Host.putBack(s.Path, before)
}

// Remove is a file or symbolic link that does not exist, nor do the temporary files that a killed
// write of it left.
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
	if before.Is == "" {
		dir, name, err := s.Host.dir(s.Path)
		if absent(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		if left, err := leftovers(dir, name); err != nil || len(left) == 0 {
			return nil, err
		}
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
func (s *Link) Apply(context.Context) (bool, error) { return true, s.Host.relink(s.Target, s.Path) }

// Undo brings back what was there.
func (s *Link) Undo(_ context.Context, before *Before) (bool, error) {
	return s.Host.putBack(s.Path, before)
}
