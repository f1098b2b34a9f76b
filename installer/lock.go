package installer

import (
	"errors"
	"os"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
)

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

var errBusy = hint.New(errors.New("another install or uninstall is under way"), "wait until it has ended, then run the command again")
