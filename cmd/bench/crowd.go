package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

const discardBuffer = 1 << 20

// crowd has clients read the same content at once, each over a connection of its own, and returns how
// long the slowest took. Each asks for the paths in turn: a manifest, its blobs, the large one last.
//
// In life a client has a processor of its own. So all but one do not decrypt the last answer: on this
// machine they would take from the server what it needs to send.
func (b *bench) crowd(ctx context.Context, s *server, clients int, paths []string, length int64) (time.Duration, error) {
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	last := len(paths) - 1
	g.Go(func() error {
		c := newClient(b.site, s, h1)
		defer c.close()
		for n, path := range paths {
			a, err := c.get(ctx, path)
			if err == nil && n == last && a.length != length {
				err = fmt.Errorf("%d bytes came, not %d", a.length, length)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	for range clients - 1 {
		g.Go(func() error {
			w, err := dialWire(ctx, b.site, s)
			if err != nil {
				return err
			}
			defer w.conn.Close()
			defer context.AfterFunc(ctx, func() { w.conn.Close() })()
			for _, path := range paths[:last] {
				if _, err := w.do(w.request(path)); err != nil {
					return err
				}
			}
			return w.drain(paths[last], length)
		})
	}
	err := g.Wait()
	return time.Since(began), err
}

// drain reads an answer without decrypting its body.
func (w *wire) drain(path string, length int64) error {
	if _, err := w.conn.Write(w.request(path, "Connection: close\r\n")); err != nil {
		return err
	}
	announced, err := w.begin()
	if err != nil {
		return err
	}
	got, err := discard(w.conn.NetConn())
	// What came with the header is not in it, what TLS adds is.
	if err == nil && (announced != length || got < length-wideBuffer) {
		err = fmt.Errorf("%d bytes were announced and about %d came, not %d", announced, got, length)
	}
	return err
}

// discard reads a connection to its end. The kernel copies nothing.
func discard(conn net.Conn) (n int64, err error) {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	buffer := make([]byte, discardBuffer)
	for {
		var got int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			got, _, failed = syscall.Recvfrom(int(fd), buffer, syscall.MSG_TRUNC)
			return !errors.Is(failed, syscall.EAGAIN)
		})
		switch {
		case errors.Is(failed, syscall.EINTR):
		case err != nil || failed != nil || got == 0:
			return n, errors.Join(err, failed)
		default:
			n += int64(got)
		}
	}
}
