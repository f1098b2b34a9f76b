package installer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/home"
	"github.com/mirror-appliance/appliance/registry/config"
)

// Locate returns the identity for an appliance of this host: that of a configuration file, of the
// install directory root, or, if both are empty, of the installed service or the default directory.
func Locate(d Deps, file, root string) (*Identity, error) {
	d, err := d.complete()
	if err != nil {
		return nil, err
	}
	path, err := locate(d, file, root)
	if err != nil {
		return nil, err
	}
	id, err := identify(d, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, absent(path, file, root)
	}
	return id, err
}

// absent is the error without an appliance at path.
func absent(path, file, root string) error {
	next := "name its directory with --quayRoot, or put one on this host with: " +
		"appliance install --quayHostname HOST"
	if os.Geteuid() != 0 && file == "" && root == "" {
		next = "run the command as root if root installed it; else " + next
	}
	return hint.New(&absentError{path}, next)
}

// absentError is an appliance that does not exist. It is an fs.ErrNotExist.
type absentError struct{ path string }

func (e *absentError) Error() string { return "no appliance found: there is no " + e.path }

// Is makes it an fs.ErrNotExist.
func (e *absentError) Is(err error) bool { return err == fs.ErrNotExist }

func locate(d Deps, file, root string) (string, error) {
	if root != "" {
		root, err := filepath.Abs(root)
		if err != nil {
			return "", err
		}
		inRoot := config.Path(root)
		if path, err := filepath.Abs(file); file != "" && (err != nil || path != inRoot) {
			return "", hint.New(fmt.Errorf("--config is %s, and that of --quayRoot is %s", file, inRoot),
				"give one of the two")
		}
		return inRoot, nil
	}
	if file != "" {
		return filepath.Abs(file) // another user may have no way to this directory, see Identity.Command
	}
	if found, err := find(d, d.Geteuid() != 0); err == nil {
		return found.Config, nil
	}
	dir, err := home.Dir()
	if err != nil {
		return "", hint.New(err, "name the appliance's directory with --quayRoot, or set HOME")
	}
	return config.Path(filepath.Join(dir, "quay-install")), nil
}

// Lock excludes other installs and uninstalls of this user, until unlock or the end of the process.
// Take it before a plan is made: what one run finds missing, such as the CA, another would make as
// well.
//
// The lock is on the home directory: it leaves nothing behind, and other users cannot open that of
// root. On a file system without locks, such as some NFS, runs are not kept apart.
func Lock(d Deps) (unlock func(), err error) {
	if d, err = d.complete(); err != nil {
		return nil, err
	}
	if d.Home == "" {
		return func() {}, nil
	}
	home, err := os.Open(d.Host.Path(d.Home))
	if err != nil {
		return func() {}, nil
	}
	if err := durable.Lock(home, durable.Exclusive); errors.Is(err, durable.ErrLocked) {
		home.Close()
		return nil, errBusy
	}
	return func() { home.Close() }, nil
}

var errBusy = hint.New(errors.New("another install or uninstall is under way"),
	"wait until it has ended, then run the command again")
