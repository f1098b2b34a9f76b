package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/mirror-appliance/appliance/internal/durable"
)

// leftovers returns the temporary files that killed Writes of a path have left.
func (h *Host) leftovers(path string) ([]string, error) {
	dir, name, err := h.dir(path)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return leftovers(dir, name)
}

// Remove removes a file, a symbolic link or an empty directory if it is there, and what killed Writes of it have left.
func (h *Host) Remove(path string) (removed bool, err error) {
	dir, name, err := h.dir(path)
	if absent(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer dir.Close()
	left, err := leftovers(dir, name)
	if err != nil {
		return false, err
	}
	for _, name := range append(left, name) {
		err := dir.Remove(name)
		if err != nil && !absent(err) {
			return removed, err
		}
		removed = removed || err == nil
	}
	if !removed {
		return false, nil
	}
	return true, durable.SyncRoot(dir)
}

// ProtectedError says that a path is not removed as a tree.
type ProtectedError struct{ Path, Reason string }

func (e *ProtectedError) Error() string {
	return fmt.Sprintf("%s is not removed: it is %s", e.Path, e.Reason)
}

func (e *ProtectedError) Hint() string {
	return "name a directory that holds nothing but the appliance"
}

// RemoveTree removes a path, if it is there, and what is below it. It removes a symbolic link and does not follow it. It
// rejects "/", the directories of the system and home directories. An emptied mount point stays.
func (h *Host) RemoveTree(ctx context.Context, path string) (removed bool, err error) {
	if err := h.Removable(path); err != nil {
		return false, err
	}
	return h.removeAll(ctx, path)
}

func (h *Host) removeAll(ctx context.Context, path string) (removed bool, err error) {
	parent, name, err := h.dir(path)
	if absent(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer parent.Close()
	if _, err := parent.Lstat(name); absent(err) {
		return false, nil
	}
	if err := removeTree(ctx, parent, name); err != nil {
		return true, fmt.Errorf("remove %s: %w", path, err)
	}
	return true, durable.SyncRoot(parent)
}

// removeTree stays below in, which is an os.Root, also if a directory is exchanged for a link meanwhile.
func removeTree(ctx context.Context, in *os.Root, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	fi, err := in.Lstat(name)
	if err != nil {
		return err
	}
	if fi.IsDir() {
		if err := emptyTree(ctx, in, name); err != nil {
			return err
		}
	}
	err = in.Remove(name)
	if errors.Is(err, syscall.EBUSY) && fi.IsDir() {
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
	for {
		f, err := dir.Open(".")
		if err != nil {
			return err
		}
		names, err := f.Readdirnames(1000)
		f.Close()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, n := range names {
			if err := removeTree(ctx, dir, n); err != nil {
				return err
			}
		}
	}
}

// Removable rejects the paths that RemoveTree rejects.
func (h *Host) Removable(path string) error {
	clean := filepath.Clean(path)
	if !filepath.IsAbs(path) {
		return &ProtectedError{path, "not an absolute path"}
	}
	if SystemDir(clean) {
		return &ProtectedError{path, "a directory of the system"}
	}
	homes, err := h.homes()
	if err != nil {
		return err
	}
	for _, home := range homes {
		if home == clean || strings.HasPrefix(home, clean+"/") {
			return &ProtectedError{path, "a home directory or holds one"}
		}
	}
	return nil
}

// homes returns the home directories that /etc/passwd and the environment name, except for directories of the system:
// daemons have "/" or "/var/lib/x".
func (h *Host) homes() ([]string, error) {
	users, err := h.passwd()
	if err != nil {
		return nil, err
	}
	var homes []string
	if home, err := os.UserHomeDir(); err == nil && h.root == "" {
		homes = append(homes, filepath.Clean(home))
	}
	for _, u := range users {
		if filepath.IsAbs(u.home) && !SystemDir(filepath.Clean(u.home)) {
			homes = append(homes, filepath.Clean(u.home))
		}
	}
	return homes, nil
}

// SystemDir reports whether path is "/" or a directory that every host has. An install is not put right into one, and does
// not remove one.
func SystemDir(path string) bool {
	path = filepath.Clean(path)
	if path == "/" || slices.Contains([]string{
		"/home", "/opt", "/srv", "/mnt", "/media", "/data", "/usr/local", "/usr/local/bin", "/usr/local/sbin",
		"/var", "/var/lib", "/var/opt", "/var/tmp", "/var/home", "/var/roothome", "/var/mnt", "/var/srv", "/tmp", "/root",
	}, path) {
		return true
	}
	return InSystemDir(path)
}

// InSystemDir reports whether path is, or is below, a directory of the operating system.
func InSystemDir(path string) bool {
	path = filepath.Clean(path)
	for _, dir := range []string{
		"/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/lost+found", "/proc", "/run", "/sbin",
		"/sys", "/usr/bin", "/usr/etc", "/usr/include", "/usr/lib", "/usr/lib64", "/usr/libexec", "/usr/sbin", "/usr/share",
		"/sysroot", "/ostree",
	} {
		if path == dir || strings.HasPrefix(path, dir+"/") {
			return true
		}
	}
	return path == "/usr"
}
