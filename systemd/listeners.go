package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/coreos/go-systemd/v22/activation"
)

// SocketError is a file descriptor that this process was handed and cannot serve on.
type SocketError struct {
	Name string // its FileDescriptorName=
	Err  error
}

func (e *SocketError) Error() string { return fmt.Sprintf("socket %q from systemd: %v", e.Name, e.Err) }

func (e *SocketError) Unwrap() error { return e.Err }

// Hint says what to do next.
func (e *SocketError) Hint() string {
	return "the socket unit must listen on TCP streams and say FileDescriptorName=" + socketName
}

// Listeners are the sockets that systemd handed to this process; none when it was not started by a socket.
// It takes them out of the environment, so that no process started later believes they are its own, and so that a
// second call gives none.
func Listeners() ([]net.Listener, error) {
	var listeners []net.Listener
	var errs []error
	// go-systemd's own function would drop without a word what is no stream socket.
	for _, file := range activation.Files(true) {
		listener, err := listen(file)
		if err != nil {
			errs = append(errs, &SocketError{Name: file.Name(), Err: err})
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

// listen makes a listener of a file, which it closes: a listener has a duplicate.
func listen(file *os.File) (net.Listener, error) {
	defer file.Close()
	if file.Name() != socketName {
		return nil, errors.New("unknown name")
	}
	return net.FileListener(file)
}
