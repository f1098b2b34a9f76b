package blobs3

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptrace"
	"sync"
	"syscall"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// silentError reports a storage that accepts a request and then does nothing.
type silentError struct{ after time.Duration }

func (e *silentError) Error() string {
	return fmt.Sprintf("for %s nothing was received or taken", e.after)
}

// listen calls do, which makes requests, and ends their context while no byte of them moves for s.silence. One that was
// ended is not made again: the client waits as well. A bound of the whole request was refused: a part takes minutes on a
// slow line.
//
// lives is asked before that, and keeps a request whose storage answers another one. nil: it is ended.
func (s *Storage) listen(ctx context.Context, end context.CancelCauseFunc, lives func(context.Context) bool, do func(context.Context) error) error {
	p := &pulse{}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	go p.watch(watching, s.silence, func() bool {
		if lives != nil && lives(watching) {
			return false
		}
		end(&silentError{s.silence})
		return true
	})
	err := do(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: p.on}))
	var silent *silentError
	if err != nil && errors.As(context.Cause(ctx), &silent) {
		return silent
	}
	return err
}

// answers reports whether the storage answers a request, in whatever way.
func (s *Storage) answers(ctx context.Context) bool {
	err := s.bucketGone(blobstore.Once(ctx), "see whether "+s.Root()+" answers")
	return err == nil || errors.As(err, new(minio.ErrorResponse))
}

// pulse sees the bytes of a request move: what the other side has acknowledged, and what was received. That bytes were
// written tells nothing, since the kernel takes some megabytes of them.
type pulse struct {
	mu   sync.Mutex
	conn syscall.RawConn // nil until there is a connection
}

// on notes the connection of a request.
func (p *pulse) on(got httptrace.GotConnInfo) {
	conn := got.Conn
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = over.NetConn()
	}
	of, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := of.SyscallConn()
	if err != nil { // it was closed
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn = raw
}

// moved returns how many bytes have moved on the connection, 0 for none.
func (p *pulse) moved() (bytes uint64) {
	p.mu.Lock()
	raw := p.conn
	p.mu.Unlock()
	if raw == nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { // which fails on a connection that is closed
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			bytes = info.Bytes_acked + info.Bytes_received
		}
	})
	return bytes
}

// watch calls silent each time that no byte has moved for after, until that returns true or ctx ends.
func (p *pulse) watch(ctx context.Context, after time.Duration, silent func() bool) {
	ticker := time.NewTicker(after / 20)
	defer ticker.Stop()
	last, since := p.moved(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if now := p.moved(); now != last {
			last, since = now, time.Now()
		} else if time.Since(since) >= after {
			if silent() {
				return
			}
			since = time.Now()
		}
	}
}
