package postgres

import (
	"cmp"
	"context"
	"crypto/tls"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/retry"
)

const (
	// silentAfter is how long a statement has no answer before the server is asked whether it lives. A
	// statement may take any time while it does.
	silentAfter = retry.Silence / 2
	// probeTime is how long the server has to answer that.
	probeTime = retry.Silence / 2
)

// watch ends the connections of a server that is silent: it is stopped, it hangs, or the network loses
// what is sent. No answer tells that from a statement that takes long, and so another connection asks.
// A limit of statements was refused: collection, migration and copies have statements without one.
type watch struct {
	silent time.Duration // silentAfter, or in tests less
	probe  time.Duration // likewise
	log    *slog.Logger

	mu       sync.Mutex // guards what follows
	open     map[*conn]struct{}
	timer    *time.Timer // runs while there are connections
	answered time.Time   // when the server last did

	trying bool  // a connection is being made to a server that is silent
	failed error // of the last attempt; nil: it is not known to be silent
}

// asks notes that the connection waits for the server, until answered.
func (c *conn) asks() { c.asked.Store(time.Now().UnixNano()) }

func (c *conn) answered() { c.asked.Store(0) }

func (w *watch) add(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == nil {
		w.open = map[*conn]struct{}{}
	}
	w.open[c] = struct{}{}
	if w.timer == nil {
		w.timer = time.AfterFunc(w.silent/10, w.look)
	}
}

func (w *watch) remove(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if delete(w.open, c); len(w.open) == 0 && w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
}

// look ends the connections of a server that does not answer.
func (w *watch) look() {
	if c := w.longest(); c != nil {
		if err := probe(c, w.probe); err != nil {
			w.cut(c, err)
		} else {
			w.mu.Lock()
			w.answered = time.Now()
			w.mu.Unlock()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Reset(w.silent / 10)
	}
}

// longest returns the connection that waits longest, if that is for so long that the server is asked.
func (w *watch) longest() *conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := time.Now().Add(-w.silent)
	if w.answered.After(before) {
		return nil
	}
	var longest *conn
	least := before.UnixNano()
	for c := range w.open {
		if since := c.asked.Load(); since != 0 && since < least {
			longest, least = c, since
		}
	}
	return longest
}

// cut ends all connections to the server of one, also those that are idle: the requests that wait find out
// now, and the next ones do not wait on them.
func (w *watch) cut(silent *conn, err error) {
	w.log.Warn("the server of the database does not answer: its connections are ended", "error", err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = fmt.Errorf("it does not answer: %w", err)
	for c := range w.open {
		if c.remote() == silent.remote() {
			_ = c.raw().Close() // which cannot fail in a way that matters
		}
	}
}

// connect makes a connection, one at a time while the server is silent: other requests are answered at
// once by the last failure.
func (w *watch) connect(ctx context.Context, connect func(context.Context) (driver.Conn, error)) (driver.Conn, error) {
	w.mu.Lock()
	alone := w.failed != nil
	if alone && w.trying {
		defer w.mu.Unlock()
		return nil, w.failed
	}
	w.trying = w.trying || alone
	w.mu.Unlock()
	c, err := connect(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	if alone {
		w.trying = false
	}
	switch {
	case err == nil || codeOf(err) != "":
		w.failed = nil
	case timedOut(err) && ctx.Err() == nil:
		w.failed = err
	}
	return c, err
}

// failure returns why the server counts as silent, or nil.
func (w *watch) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

func timedOut(err error) bool {
	var of net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &of) && of.Timeout()
}

// leave ends the connections to servers whose place another one has taken. Those that such a server has ended itself, as it does
// when it dies, are nothing to tell of.
func (w *watch) leave(p *primaries) {
	left := map[string]error{}
	w.mu.Lock()
	for c := range w.open {
		if err := p.outdated(c.Conn.Conn().PgConn()); err != nil {
			if !hungUp(c.raw()) {
				left[c.remote()] = err
			}
			_ = c.raw().Close() // which cannot fail in a way that matters
		}
	}
	w.mu.Unlock()
	for at, err := range left {
		w.log.Warn("the connections to an old primary of the database are ended", "server", at, "error", err, "hint", cmp.Or(hint.Of(err), outdatedHint))
	}
}

// hungUp reports whether the other side has closed a connection, or this one has. It reads nothing: the connection may be in use.
func hungUp(c net.Conn) bool {
	of, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := of.SyscallConn()
	if err != nil {
		return true
	}
	var gone bool
	err = raw.Control(func(fd uintptr) {
		look := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(look, 0)
		gone = err == nil && n > 0
	})
	return gone || err != nil
}

// raw returns the connection below TLS, whose end waits for nothing.
func (c *conn) raw() net.Conn { return rawOf(c.Conn.Conn().PgConn()) }

func rawOf(c *pgconn.PgConn) net.Conn {
	of := c.Conn()
	if over, ok := of.(*tls.Conn); ok {
		return over.NetConn()
	}
	return of
}

func (c *conn) remote() string {
	a := c.raw().RemoteAddr()
	return a.Network() + " " + a.String()
}

// sslRequest asks a server for TLS, which each one answers by a byte, before a login and also when it has
// too many connections.
var sslRequest = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 8), 80877103)

// probe returns an error unless the server of a connection answers another one.
func probe(c *conn, within time.Duration) error {
	return ask(c.raw().RemoteAddr(), within, c.server.direct)
}

func ask(a net.Addr, within time.Duration, direct bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	other, err := new(net.Dialer).DialContext(ctx, a.Network(), a.String())
	if err != nil {
		return err
	}
	defer func() { _ = other.Close() }() // nothing is lost with it
	if direct {
		return nil // its first message would be that of TLS
	}
	if err := other.SetDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if _, err := other.Write(sslRequest); err != nil {
		return err
	}
	_, err = io.ReadFull(other, make([]byte, 1))
	return err
}
