package installer

import (
	"errors"
	"os"

	"github.com/mirror-appliance/appliance/internal/durable"
)

// Lock keeps other installs and uninstalls of this user away, until unlock or the end of the process. It is to be held
// from before a plan is made: what one run finds missing, such as the CA, another would make as well.
//
// What is locked is the home directory, which leaves nothing behind and which nobody else can open when it is root's.
// Where it knows no locks, as on NFS, runs are not kept apart.
func Lock(d Deps) (unlock func(), err error) {
	if d, err = d.complete(false); err != nil {
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
		return nil, &BusyError{}
	}
	return func() { home.Close() }, nil
}

// BusyError says that another install or uninstall is under way.
type BusyError struct{}

func (e *BusyError) Error() string { return "another install or uninstall is under way" }

func (e *BusyError) Hint() string { return "wait until it has ended, then run the command again" }
