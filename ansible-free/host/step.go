package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Step is one idempotent change of a host, a plain value. Journal.Do applies it.
type Step interface {
	// String returns what the step does, as an imperative: "write /etc/systemd/system/appliance.service". That of a
	// step that is not shown is empty.
	String() string
	// Check returns what Undo needs to take the step back, nil if there is nothing to do. It changes nothing.
	Check(ctx context.Context) (*Before, error)
	// Apply makes the change and reports whether it changed anything. It follows Check.
	Apply(ctx context.Context) (changed bool, err error)
	// Undo brings back what Check found and reports whether it changed anything. Apply may have failed half way, may not
	// have begun, or may have been called by another process.
	Undo(ctx context.Context, before *Before) (changed bool, err error)
}

// Before is what a step found. The zero value means that there was nothing.
type Before struct {
	Is     string      `json:"is,omitempty"` // file, directory, link, running, enabled
	Path   string      `json:"path,omitempty"`
	Mode   fs.FileMode `json:"mode,omitempty"`
	Owner  Owner       `json:"owner"`
	Target string      `json:"target,omitempty"` // of a link
	PID    uint32      `json:"pid,omitempty"`    // of what is running
	Copy   string      `json:"copy,omitempty"`   // the file that has the content; empty if the step leaves the content alone
	SHA256 string      `json:"sha256,omitempty"` // of the copy
	Below  []Before    `json:"below,omitempty"`  // what the step changes in a directory

	keep bool // the journal is to copy the content
}

// Kinds of Before.Is.
const (
	isFile      = "file"
	isDirectory = "directory"
	isLink      = "link"
)

// has reports whether mode and owner are what a step demands.
func (b *Before) has(mode fs.FileMode, owner Owner) bool {
	return b.Mode == mode.Perm() && b.Owner.satisfies(owner)
}

// look describes a path. It rejects what is neither a file nor a directory nor a link.
func (h *Host) look(path string) (*Before, error) {
	ok, err := h.Exists(path)
	if err != nil || !ok {
		return &Before{}, err
	}
	info, err := h.Stat(path)
	if err != nil {
		return nil, err
	}
	b := &Before{Is: isFile, Path: path, Mode: info.Mode.Perm(), Owner: info.Owner}
	switch {
	case info.Mode.IsDir():
		b.Is = isDirectory
	case info.Mode&fs.ModeSymlink != 0:
		b.Is = isLink
		b.Target, err = h.Readlink(path)
	case !info.Mode.IsRegular():
		err = notRegular(path, "not a regular file")
	}
	return b, err
}

// putBack makes a path, a file or a link, what it was.
func (h *Host) putBack(path string, b *Before) (changed bool, err error) {
	switch {
	case b.Is == isLink:
		return true, h.Relink(b.Target, path)
	case b.Is != isFile:
		return h.Remove(path)
	case b.Copy == "":
		return true, h.SetAttr(path, b.Mode, b.Owner)
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
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) }

func notRegular(path, kind string) error {
	return hint.New(fmt.Errorf("%s is %s", path, kind), "move it away, then run the command again")
}
