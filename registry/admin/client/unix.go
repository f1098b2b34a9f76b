package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// NewUnix returns a client of the daemon on this host, over its socket.
func NewUnix(socket string) *Client {
	return newUnix(socket, func(net.Conn) error { return nil })
}

// NewUnixOf returns a client of a daemon that user uid runs. Another user's process on the socket is told nothing.
func NewUnixOf(socket string, uid int) *Client {
	return newUnix(socket, func(c net.Conn) error { return answeredBy(c, socket, uid) })
}

func newUnix(socket string, check func(net.Conn) error) *Client {
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			d := net.Dialer{Timeout: dialTimeout}
			c, err := d.DialContext(ctx, "unix", socket)
			if err != nil {
				return nil, err
			}
			if err := check(c); err != nil {
				return nil, errors.Join(err, c.Close())
			}
			return c, nil
		},
	}
	return newClient(t, "http://local", "", "")
}

// answeredBy asks the kernel which user listens (unix(7), SO_PEERCRED).
func answeredBy(c net.Conn, socket string, uid int) error {
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("find out who answers on %s: %w", socket, failed)
	}
	if int(peer.Uid) != uid {
		return hint.New(
			fmt.Errorf("what answers on the control socket %s runs as user %d, and the registry as user %d", socket, peer.Uid, uid),
			"find out what it is: ss -xlp; then stop it, and start the registry")
	}
	return nil
}
