package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"

	"github.com/mirror-appliance/appliance/internal/durable"
)

// Known reports whether a regular file or a directory, named relative to where a walk began, is one that
// the caller knows.
type Known func(name string, dir bool) bool

// visited is what a walk has come to.
type visited struct {
	in   *os.Root
	name string // in it
	rel  string // to where the walk began
	info fs.FileInfo
}

// EachBelow calls visit for what lies below a directory, with its name relative to that. It enters the
// directories that are known, and visits them after what is in them. Links are not followed, and are not
// known.
func (h *Host) EachBelow(ctx context.Context, dir string, known Known, visit func(name string, info fs.FileInfo, known bool) error) error {
	return h.below(dir, func(root *os.Root) error {
		return eachIn(ctx, root, "", known, func(v visited, is bool) error { return visit(v.rel, v.info, is) })
	})
}

// RemoveBelow removes what is known below a directory, a directory if it is empty then. A mount point
// stays.
func (h *Host) RemoveBelow(ctx context.Context, dir string, known Known) (removed bool, err error) {
	err = h.below(dir, func(root *os.Root) error {
		err := eachIn(ctx, root, "", known, func(v visited, is bool) error {
			if !is {
				return nil
			}
			err := v.in.Remove(v.name)
			if v.info.IsDir() && (errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) || errors.Is(err, syscall.EBUSY)) {
				return nil
			}
			removed = removed || err == nil
			return durable.IgnoreMissing(err)
		})
		if removed { // one commit of a file system's journal has all of it
			err = errors.Join(err, durable.SyncRoot(root))
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("remove from %s: %w", dir, err)
	}
	return removed, err
}

// below calls do with a directory, if it exists.
func (h *Host) below(dir string, do func(root *os.Root) error) error {
	root, err := h.OpenRoot(dir)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	return do(root)
}

func eachIn(ctx context.Context, in *os.Root, at string, known Known, visit func(v visited, is bool) error) error {
	entries, err := fs.ReadDir(in.FS(), ".")
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		v := visited{in: in, name: e.Name(), rel: path.Join(at, e.Name())}
		if v.info, err = in.Lstat(v.name); absent(err) {
			continue
		}
		if err != nil {
			return err
		}
		is := (v.info.IsDir() || v.info.Mode().IsRegular()) && known(v.rel, v.info.IsDir())
		if is && v.info.IsDir() {
			if err := enter(ctx, v, known, visit); err != nil {
				return err
			}
		}
		if err := visit(v, is); err != nil {
			return err
		}
	}
	return err
}

func enter(ctx context.Context, v visited, known Known, visit func(v visited, is bool) error) error {
	dir, err := v.in.OpenRoot(v.name)
	if err != nil {
		return err
	}
	defer dir.Close()
	return eachIn(ctx, dir, v.rel, known, visit)
}
