package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// OwnNamespace makes mounts of this process invisible to others. It returns an error in the mount
// namespace of the parent.
func OwnNamespace() error {
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return err
	}
	parents, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", os.Getppid()))
	if err != nil {
		return err
	}
	if own == parents {
		return errors.New("this command is not for people")
	}
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
}

// Mask mounts an empty directory over each closed one, and binds the directories beyond back into
// it.
func Mask(closed, beyond []string) error {
	fds := map[string]int{}
	for _, dir := range beyond {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			continue // the command says so
		}
		if err != nil {
			return &os.PathError{Op: "open", Path: dir, Err: err}
		}
		fds[dir] = fd
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	paths := slices.Concat(closed, beyond)
	slices.Sort(paths) // a directory before what is in it
	var empty []string
	hidden := func(path string) bool {
		return slices.ContainsFunc(empty, func(dir string) bool {
			return strings.HasPrefix(path, filepath.Clean(dir)+"/")
		})
	}
	for _, path := range slices.Compact(paths) {
		fd, bind := fds[path]
		switch {
		case slices.Contains(closed, path):
			if err := mount("appliance", path, "tmpfs", flags, "mode=755,size=1m"); err != nil {
				return err
			}
			empty = append(empty, path)
		case bind && hidden(path):
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
			source := fmt.Sprintf("/proc/self/fd/%d", fd)
			if err := mount(source, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
				return err
			}
		}
	}
	for _, dir := range empty {
		err := mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|flags, "")
		if err != nil {
			return err
		}
	}
	return nil
}

func mount(source, path, kind string, flags uintptr, data string) error {
	if err := unix.Mount(source, path, kind, flags, data); err != nil {
		return &os.PathError{Op: "mount", Path: path, Err: err}
	}
	return nil
}
