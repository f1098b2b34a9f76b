package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	before := &Before{Is: isDirectory, Mode: info.Mode.Perm(), Owner: info.Owner}
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
	if absent(err) || err == nil && info.Mode.Perm() == before.Mode && info.Owner == before.Owner {
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
