package installer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// CheckBackup returns an error unless a backup can be written to path: a place that no user but the
// caller can redirect, and not among the registry's own files.
func (id *Identity) CheckBackup(path string) error {
	if err := id.backupElsewhere(path); err != nil {
		return err
	}
	return id.backupOutside(path)
}

// backupElsewhere keeps a backup from where another user, the service for one, can lead root by a
// link, or exchange the backup. A directory in which users have files of their own, such as /tmp,
// is accepted. So is a network share, since its owners are the server's affair.
func (id *Identity) backupElsewhere(path string) error {
	for dir := path; ; dir = filepath.Dir(dir) {
		other, err := id.host.Other(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
			continue // up to the one in which it will be made
		case err != nil:
			return err
		case other == nil || onNetwork(id.host.Path(other.Path)):
			return nil
		case other.UID < 0:
			info, err := id.host.StatTarget(other.Path)
			if err == nil && (info.Mode&fs.ModeSticky != 0 || other.Path != path && !info.Mode.IsDir()) {
				return nil // what writes the backup says that a directory is none
			}
			return otherError(path, *other)
		}
		return hint.New(fmt.Errorf("the backup would be where user %s can change it: %s is that user's",
			id.host.UserName(other.UID), other.Path), "give a directory that is yours, best on another "+
			"file system")
	}
}

// onNetwork reports whether a path is on a network file system, without following a link at it.
func onNetwork(path string) bool {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var system unix.Statfs_t
	return unix.Fstatfs(fd, &system) == nil && networkKind(system) != ""
}

// backupOutside keeps the files of a backup from being mixed with those of the registry. A
// directory of the backup's own within the install directory is allowed.
func (id *Identity) backupOutside(path string) error {
	target, err := os.Stat(path)
	if err != nil {
		return nil // it is not there, or what writes it tells why
	}
	c := id.Config
	conf := filepath.Dir(id.Path)
	own := append(storeDirs(c), conf, filepath.Dir(conf), filepath.Dir(c.TLS.Certificate))
	if c.TLS.CA != "" {
		own = append(own, filepath.Dir(c.TLS.CA))
	}
	for _, dir := range own {
		if info, err := os.Stat(dir); err == nil && os.SameFile(target, info) {
			return hint.New(
				fmt.Errorf("back up to %s: it is a directory of the registry itself", path),
				"give a directory of its own to the backup, best on another file system")
		}
	}
	return nil
}
