package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Step is one idempotent change of a host, a plain value. Journal.Do applies it.
type Step interface {
	// String returns what the step does, as an imperative: "write /etc/passwd". It is empty for a
	// step that is not shown.
	String() string
	// Check returns what Undo needs to take the step back, nil if there is nothing to
	// do. It changes nothing.
	Check(ctx context.Context) (*Before, error)
	// Apply makes the change and reports whether it changed anything. It follows Check.
	Apply(ctx context.Context) (changed bool, err error)
	// Undo brings back what Check found and reports whether it changed anything. Apply may have
	// failed half way, may not have begun, or may have been called by another process.
	Undo(ctx context.Context, before *Before) (changed bool, err error)
}

// Before is what a step found. The zero value means that there was nothing.
type Before struct {
	Is     string      `json:"is,omitempty"` // file, directory, link, group, running, enabled
	Path   string      `json:"path,omitempty"`
	Mode   fs.FileMode `json:"mode,omitempty"`
	Owner  Owner       `json:"owner"`
	Target string      `json:"target,omitempty"` // of a link
	PID    uint32      `json:"pid,omitempty"`    // of what is running
	Copy   string      `json:"copy,omitempty"`   // the file with the content, if it changes
	SHA256 string      `json:"sha256,omitempty"` // of the copy
	Below  []Before    `json:"below,omitempty"`  // what the step changes in a directory

	keep bool // the journal is to copy the content
}

// Kinds of Before.Is.
const (
	isFile      = "file"
	isDirectory = "directory"
	isLink      = "link"
	isGroup     = "group" // of the user; the user was not there
)

// has reports whether mode and owner are what a step demands.
func (b *Before) has(mode fs.FileMode, owner Owner) bool {
	return b.Mode.Perm() == mode.Perm() && b.Owner.satisfies(owner)
}

// look describes a path. It rejects what is neither a file nor a directory nor a link.
func (h *Host) look(path string) (*Before, error) {
	b := new(Before)
	err := h.withFile(path, false, func(f *os.File, fi fs.FileInfo) (err error) {
		*b = Before{Is: isFile, Path: path, Mode: fi.Mode().Perm(), Owner: infoOf(fi).Owner}
		switch {
		case fi.IsDir():
			b.Is = isDirectory
		case fi.Mode()&fs.ModeSymlink != 0:
			b.Is = isLink
			b.Target, err = readlink(int(f.Fd()))
		case !fi.Mode().IsRegular():
			err = notRegular(path, "not a regular file")
		}
		return err
	})
	if absent(err) {
		err = nil
	}
	return b, err
}

// putBack makes a path, a file or a link, what it was.
func (h *Host) putBack(path string, b *Before) (changed bool, err error) {
	switch {
	case b.Is == isLink:
		return true, h.relink(b.Target, path)
	case b.Is != isFile:
		return h.Remove(path)
	case b.Copy == "":
		return true, h.setFileAttr(path, b.Mode, b.Owner)
	}
	if sum, err := h.Sum(b.Copy); err != nil {
		return false, err
	} else if sum != b.SHA256 {
		return false, fmt.Errorf("the copy of %s in %s is damaged", path, b.Copy)
	}
	f, err := h.Open(b.Copy)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return true, h.Write(path, f, b.Mode, b.Owner)
}

// absent reports whether an error means that there is no such file or directory.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

func notRegular(path, kind string) error {
	return hint.New(fmt.Errorf("%s is %s", path, kind), "move it away, then run the command again")
}
