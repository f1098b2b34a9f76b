package installer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

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

// backupElsewhere keeps root from writing to a directory of the service, which could lead it from
// there anywhere, and a user from writing to one of another user, as a link in /tmp may lead to.
func (id *Identity) backupElsewhere(path string) error {
	root := os.Geteuid() == 0
	if root && id.UID == 0 {
		return nil
	}
	for dir := path; ; dir = filepath.Dir(dir) {
		other, err := id.host.Other(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
			continue // up to the one in which it will be made
		case err != nil:
			return err
		case other != nil && other.UID >= 0 && !root:
			return hint.New(
				fmt.Errorf("the backup would be where user %d can change it: %s is that user's",
					other.UID, other.Path),
				"give a directory that is yours")
		case other != nil && root && other.UID == id.UID:
			return hint.New(
				fmt.Errorf("the backup would be in a directory of the registry's own user: %s", other.Path),
				"give a directory that is not the registry's, best on another file system")
		}
		return nil
	}
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
