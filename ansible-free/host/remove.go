package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
)

// removeIn calls do with the directory of a path, if there is one. It removes what killed runs of
// replace have left of the path, and makes a removal durable.
func (h *Host) removeIn(path string, do func(dir *os.Root, name string) (removed bool, err error)) (
	removed bool, err error) {
	dir, name, err := h.dir(path)
	if absent(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer dir.Close()
	left, err := removeLeftovers(dir, name)
	if err == nil {
		removed, err = do(dir, name)
	}
	if removed = removed || left; err != nil {
		return removed, fmt.Errorf("remove %s: %w", path, err)
	}
	if removed {
		err = durable.SyncRoot(dir)
	}
	return removed, err
}

// Remove removes a file, a symbolic link or an empty directory if it is there.
func (h *Host) Remove(path string) (bool, error) {
	return h.removeIn(path, func(dir *os.Root, name string) (bool, error) {
		err := dir.Remove(name)
		return err == nil, durable.IgnoreMissing(err)
	})
}

// removeEmpty removes a directory if it exists and is empty. A mount point stays.
func (h *Host) removeEmpty(path string) (bool, error) {
	return h.removeIn(path, func(dir *os.Root, name string) (bool, error) {
		if fi, err := dir.Lstat(name); err != nil || !fi.IsDir() {
			return false, nil
		}
		err := dir.Remove(name)
		if absent(err) || errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) ||
			errors.Is(err, syscall.EBUSY) {
			return false, nil
		}
		return err == nil, err
	})
}

// RemoveTree removes a path, if it is there, and what is below it. It removes a symbolic link and
// does not follow it. It rejects what Removable does. An emptied mount point stays.
func (h *Host) RemoveTree(ctx context.Context, path string) (bool, error) {
	if err := h.Removable(path); err != nil {
		return false, fmt.Errorf("%s is not removed: %w", path, err)
	}
	return h.removeAll(ctx, path)
}

func (h *Host) removeAll(ctx context.Context, path string) (bool, error) {
	return h.removeIn(path, func(dir *os.Root, name string) (bool, error) {
		if _, err := dir.Lstat(name); absent(err) {
			return false, nil
		}
		return true, removeTree(ctx, dir, name)
	})
}

// removeTree stays below in, which is an os.Root, also if a directory is exchanged for a link
// meanwhile.
func removeTree(ctx context.Context, in *os.Root, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	fi, err := in.Lstat(name)
	if err == nil && fi.IsDir() {
		err = emptyTree(ctx, in, name)
	}
	if err != nil {
		return err
	}
	if err = in.Remove(name); errors.Is(err, syscall.EBUSY) && fi.IsDir() {
		return nil
	}
	return err
}

func emptyTree(ctx context.Context, in *os.Root, name string) error {
	dir, err := in.OpenRoot(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	entries, err := fs.ReadDir(dir.FS(), ".")
	for _, e := range entries {
		if err := removeTree(ctx, dir, e.Name()); err != nil {
			return err
		}
	}
	return err
}

// Removable rejects "/", the directories of the system and home directories.
func (h *Host) Removable(path string) error {
	clean := filepath.Clean(path)
	if !filepath.IsAbs(path) {
		return protected("not an absolute path")
	}
	if SystemDir(clean) {
		return protected("a directory of the system")
	}
	users, err := h.passwd()
	if err != nil {
		return err
	}
	if home, err := os.UserHomeDir(); err == nil && h.root == "" {
		users = append(users, passwdLine{home: home})
	}
	for _, u := range users {
		// Daemons have "/" or "/var/lib/x".
		if home := filepath.Clean(u.home); filepath.IsAbs(home) && !SystemDir(home) &&
			(home == clean || strings.HasPrefix(home, clean+"/")) {
			return protected("a home directory or holds one")
		}
	}
	return nil
}

func protected(kind string) error {
	return hint.New(errors.New("it is "+kind), "name a directory that holds nothing but the appliance")
}
