package main

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	delayChunk = 64 << 10
	// delayBytes is what the link holds in flight at most, each way: enough that the link is never what limits.
	delayBytes = 32 << 20
)

// proxied puts a proxy before a server that hands on what it reads after the link's delay, in order.
func proxied(ctx context.Context, s *server) (string, func() error, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error {
		for {
			in, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			if err != nil {
				return err
			}
			g.Go(func() error { return delayed(ctx, in, s.addr) })
		}
	})
	return l.Addr().String(), func() error {
		err := l.Close()
		cancel()
		return errors.Join(err, g.Wait())
	}, nil
}

// delayed joins two connections until either ends.
func delayed(ctx context.Context, in net.Conn, addr string) error {
	defer in.Close()
	out, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer out.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { in.Close(); out.Close() })()
	var g errgroup.Group
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		g.Go(func() error {
			defer cancel()
			transmit(ctx, way[0], way[1])
			return nil // an end of either side is the end of both, and for the client to judge
		})
	}
	return g.Wait()
}

// A packet is bytes, and when they arrive.
type packet struct {
	bytes []byte
	at    time.Time
}

// transmit copies from one side to the other, everything as late as the link is long.
func transmit(ctx context.Context, from io.Reader, to io.Writer) {
	flight := make(chan packet, delayBytes/delayChunk)
	free := make(chan []byte, cap(flight)+2)
	var g errgroup.Group
	g.Go(func() error { return arrive(ctx, flight, free, to) })
	for {
		var buffer []byte
		select {
		case buffer = <-free:
		default:
			buffer = make([]byte, delayChunk)
		}
		n, err := from.Read(buffer)
		if n > 0 {
			select {
			case flight <- packet{buffer[:n], time.Now().Add(linkDelay)}:
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		if err != nil {
			break
		}
	}
	close(flight)
	_ = g.Wait() // the connection that broke is closed by the caller
}

// arrive writes packets when their time has come, and goes on emptying the flight if it no longer can.
func arrive(ctx context.Context, flight <-chan packet, free chan<- []byte, to io.Writer) error {
	var failed error
	for p := range flight {
		if failed != nil {
			continue
		}
		select {
		case <-time.After(time.Until(p.at)):
			_, failed = to.Write(p.bytes)
		case <-ctx.Done():
			failed = ctx.Err()
		}
		select {
		case free <- p.bytes[:cap(p.bytes)]:
		default:
		}
	}
	return failed
}
