package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Listeners returns the sockets that systemd handed to this process, if any, and removes them from
// the environment, so that a child process does not take them. A second call returns none.
func Listeners() ([]net.Listener, error) {
	var listeners []net.Listener
	var errs []error
	// Not activation.Listeners, which silently drops a socket that is not a stream.
	for _, file := range activation.Files(true) {
		listener, err := listen(file)
		if err != nil {
			errs = append(errs, hint.New(fmt.Errorf("socket %q from systemd: %w", file.Name(), err),
				"the socket unit must listen on TCP streams and say FileDescriptorName="+socketName))
			continue
		}
		listeners = append(listeners, listener)
	}
	if len(errs) > 0 {
		for _, listener := range listeners {
			errs = append(errs, listener.Close())
		}
		return nil, errors.Join(errs...)
	}
	return listeners, nil
}

// listen returns a listener on a file, which it closes: the listener has a duplicate.
func listen(file *os.File) (net.Listener, error) {
	defer file.Close()
	if file.Name() != socketName {
		return nil, errors.New("unknown name")
	}
	return net.FileListener(file)
}
