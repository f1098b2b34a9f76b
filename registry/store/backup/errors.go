package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
)

// unreadable is an error of the store's side of a backup.
func unreadable(path string, err error) error {
	e := &Error{Path: path, Reason: "cannot be read: " + err.Error(), err: err}
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.hint = "back up as root, or as the user that the registry runs as"
	case errors.Is(err, fs.ErrNotExist):
		e.hint = "check `database:` and `storage:` in config.yaml; if they were changed, restart the registry and back up again"
	}
	return e
}

// unwritable is an error of the destination's side, unless err is an *Error already.
func unwritable(dest string, err error) error {
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	e := &Error{Path: dest, Reason: "cannot be written: " + err.Error(), err: err}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.hint = "free space there, or give another place; `--prune` removes what only older backups in a directory need"
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() == 0:
		e.hint = "a network share may refuse root (NFS: root_squash): export it with no_root_squash, or back up to a local disk and copy it from there"
	case errors.Is(err, fs.ErrPermission):
		e.hint = "give a directory that you may write to"
	case errors.Is(err, syscall.EROFS):
		e.hint = "give a directory on a file system that is writable"
	case errors.Is(err, syscall.EFBIG):
		e.hint = "the file system there has no files of that size (FAT: 4 GiB): give a directory in place of a .tar, or another file system"
	default:
		return fmt.Errorf("back up to %s: %w", dest, err)
	}
	return e
}

// Error says why a backup cannot be written to or read from a place.
type Error struct {
	Path, Reason, hint string
	err                error
}

func (e *Error) Error() string { return e.Path + " " + e.Reason }
func (e *Error) Unwrap() error { return e.err }

// Hint returns what to do next.
func (e *Error) Hint() string { return e.hint }

// DamagedError says that blobs are not what their digests say, or missing.
type DamagedError struct {
	Where   string
	Total   int64
	Digests []digest.Digest // the first hundred
	hint    string
}

func (e *DamagedError) Error() string {
	names := make([]string, len(e.Digests))
	for i, d := range e.Digests {
		names[i] = d.String()
	}
	if e.Total > int64(len(names)) {
		names = append(names, "…")
	}
	return fmt.Sprintf("%d blobs in %s are damaged or missing: %s", e.Total, e.Where, strings.Join(names, ", "))
}

// Hint returns what to do next.
func (e *DamagedError) Hint() string { return e.hint }

// notEmptyError says that the store to restore to has images.
type notEmptyError struct{ Database string }

func (e *notEmptyError) Error() string {
	return "database " + e.Database + " has images in it, which a restore would lose"
}

// Hint returns what to do next.
func (e *notEmptyError) Hint() string {
	return "move " + e.Database + " away if it is to be replaced; the blobs in the storage may stay, they are verified and used"
}
