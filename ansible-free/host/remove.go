package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/mirror-appliance/appliance/internal/durable"
)

// Remove is a file or symbolic link that is gone, and so are the temporary files that a killed write of it
// left.
type Remove struct {
	Host *Host
	Path string

	previous *Kept
	link     string // where the removed symbolic link pointed
}

func (s *Remove) String() string { return "remove " + s.Path }

// Apply removes the file.
func (s *Remove) Apply(context.Context) (bool, error) {
	left, err := s.Host.removeLeftovers(s.Path)
	if err != nil {
		return left, err
	}
	info, err := s.Host.Stat(s.Path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return left, nil
	}
	if err != nil {
		return false, err
	}
	if info.Mode&fs.ModeSymlink != 0 {
		s.link, err = s.Host.Readlink(s.Path)
	} else if info.Mode&fs.ModeSocket == 0 { // a socket without its process is nothing to keep
		s.previous, err = s.Host.Keep(s.Path)
	}
	if err != nil {
		return false, err
	}
	return true, s.Host.Remove(s.Path)
}

// Undo brings the file back.
func (s *Remove) Undo(context.Context) error {
	if s.link != "" {
		return s.Host.Symlink(s.link, s.Path)
	}
	return restore(s.previous)
}

// Close lets go of the removed file, after which Undo does nothing.
func (s *Remove) Close() error { s.link = ""; return closeKept(&s.previous) }

// RemoveTree is a directory that is gone with all it held. It cannot be undone.
type RemoveTree struct {
	Host   *Host
	Path   string
	Except []string // names in the directory that stay, and with them the directory
}

func (s *RemoveTree) String() string {
	if len(s.Except) > 0 {
		return "remove all that " + s.Path + " holds, except " + strings.Join(s.Except, " and ")
	}
	return "remove " + s.Path
}

// Apply removes the tree.
func (s *RemoveTree) Apply(ctx context.Context) (bool, error) {
	ok, err := s.Host.Exists(s.Path)
	if err != nil || !ok {
		return false, err
	}
	if len(s.Except) == 0 {
		return true, s.Host.RemoveTree(ctx, s.Path)
	}
	names, err := s.Host.Names(s.Path)
	if err != nil {
		return false, err
	}
	changed := false
	for _, name := range names {
		if slices.Contains(s.Except, name) {
			continue
		}
		if err := s.Host.RemoveTree(ctx, filepath.Join(s.Path, name)); err != nil {
			return true, err
		}
		changed = true
	}
	return changed, nil
}

// Undo does nothing: the content is lost.
func (s *RemoveTree) Undo(context.Context) error { return nil }

// Prune is a directory that is gone if nothing is in it.
type Prune struct {
	Host *Host
	Path string

	removed *Info
}

func (s *Prune) String() string { return "remove directory " + s.Path + " if it is empty" }

// Apply removes the directory if it is empty.
func (s *Prune) Apply(context.Context) (bool, error) {
	info, err := s.Host.Stat(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	removed, err := s.Host.removeEmpty(s.Path)
	if removed {
		s.removed = &info
	}
	return removed, err
}

// Undo makes the directory again.
func (s *Prune) Undo(context.Context) error {
	if s.removed == nil {
		return nil
	}
	return s.Host.Mkdir(s.Path, s.removed.Mode, s.removed.Owner)
}

// removeLeftovers removes what killed Writes of path left, also where the directory is gone.
func (h *Host) removeLeftovers(path string) (bool, error) {
	dir, name, err := h.dir(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer dir.Close()
	return removeLeftovers(dir, name)
}

// ProtectedError says that a path is never removed as a tree.
type ProtectedError struct{ Path, Why string }

func (e *ProtectedError) Error() string {
	return fmt.Sprintf("%s is not removed: it is %s", e.Path, e.Why)
}

func (e *ProtectedError) Hint() string {
	return "name a directory that holds nothing but the appliance"
}

// RemoveTree removes path and what is below it. A symbolic link is removed, never followed; "/", the
// directories of the system and home directories are refused; an emptied mount point stays.
func (h *Host) RemoveTree(ctx context.Context, path string) error {
	if err := h.Removable(path); err != nil {
		return err
	}
	parent, name, err := h.dir(path)
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := removeTree(ctx, parent, name); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return durable.SyncRoot(parent)
}

// removeTree stays in its root whatever is exchanged for a link meanwhile: os.Root sees to that.
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

// Removable refuses the paths that no tree removal may ever be given.
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

// homes lists the home directories that /etc/passwd and the environment name, but not those that are
// directories of the system (daemons have "/" or "/var/lib/x").
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

// SystemDir says whether path is "/" or one of the directories that every host shares: nothing may be
// installed right into them, or remove them.
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

// InSystemDir says whether path is, or is below, a directory that belongs to the operating system alone.
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
