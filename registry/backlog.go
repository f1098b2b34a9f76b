package registry

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// backlogLimit is how much of bodies may wait in memory to be read by their handlers, over all connections.
	backlogLimit = 64 << 20
	// backlogShare is what a connection may have of it in any case, so that nobody waits for others to finish.
	backlogShare = 256 << 10
	// backlogPause is how long one read is put off at most, and not until there is room: the connection may
	// also bring what other requests on it wait for.
	backlogPause = 50 * time.Millisecond
)

// backlog bounds the memory that HTTP/2's windows cost. A client may send its whole window ahead, and that is as
// large as one upload over a long line needs it; 64 uploads that arrive faster than the disk takes them filled
// a gigabyte. So while much is waiting, connections with more than their share of it are read from slowly,
// and TCP tells their clients. A smaller window was refused: it slows the one upload that has the line for itself.
//
// It counts what is read from a connection, less what handlers read of bodies. The rest (frames, TLS, bodies that nobody
// wants) is never more than a window, and is forgotten when the last body ends, or when something is written while none is
// under way. A body counts before its handler begins: where many come at once, readers keep the processors from handlers.
type backlog struct {
	limit, share int64
	patience     time.Duration
	total        atomic.Int64
	paused       atomic.Int64 // connections that are waiting right now

	mu   sync.Mutex
	room chan struct{} // closed, and replaced, when total falls below the limit; guarded by mu
}

func newBacklog(limit, share int64) *backlog {
	return &backlog{limit: limit, share: share, patience: backlogPause, room: make(chan struct{})}
}

// watch makes the connections of l count.
func (b *backlog) watch(l net.Listener) net.Listener { return &watchedListener{l, b} }

type watchedListener struct {
	net.Listener
	backlog *backlog
}

func (l *watchedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &watched{Conn: c, backlog: l.backlog, room: make(chan struct{}, 1)}, nil
}

// watched is a connection that knows how far its handlers are behind.
type watched struct {
	net.Conn
	backlog *backlog
	bodies  atomic.Int64 // under way
	waiting atomic.Int64 // bytes read from the connection that no handler has read
	closed  atomic.Bool
	room    chan struct{} // has one when waiting fell below the share
}

func (c *watched) Read(p []byte) (int, error) {
	if c.tooFarAhead() {
		c.pause()
	}
	n, err := c.Conn.Read(p)
	if c.waiting.Load() < window {
		c.waiting.Add(int64(n))
		c.backlog.total.Add(int64(n))
	}
	if c.closed.Load() {
		c.forget() // a read that ended just before
	}
	return n, err
}

// Write is an answer: what came before it was a request.
func (c *watched) Write(p []byte) (int, error) {
	if c.bodies.Load() == 0 {
		c.forget()
	}
	return c.Conn.Write(p)
}

// Close forgets what nobody will read.
func (c *watched) Close() error {
	c.closed.Store(true)
	c.forget()
	return c.Conn.Close()
}

func (c *watched) forget() {
	if n := c.waiting.Load(); n > 0 {
		c.taken(n)
	}
}

func (c *watched) tooFarAhead() bool {
	return c.backlog.total.Load() >= c.backlog.limit && c.waiting.Load() >= c.backlog.share
}

// pause waits, but not for long.
func (c *watched) pause() {
	c.backlog.paused.Add(1)
	defer c.backlog.paused.Add(-1)
	timeout := time.NewTimer(c.backlog.patience)
	defer timeout.Stop()
	for {
		c.backlog.mu.Lock()
		room := c.backlog.room
		c.backlog.mu.Unlock()
		if !c.tooFarAhead() {
			return
		}
		select {
		case <-room:
		case <-c.room:
		case <-timeout.C:
			return
		}
	}
}

// begin and end say that a body is under way.
func (c *watched) begin() { c.bodies.Add(1) }

func (c *watched) end() {
	if c.bodies.Add(-1) == 0 {
		c.forget()
	}
}

// taken says that a handler has read n bytes.
func (c *watched) taken(n int64) {
	left := c.waiting.Add(-n)
	if left < 0 { // it was on its way here before begin: it was never counted
		n += left
		c.waiting.Add(-left)
	}
	if left < c.backlog.share {
		select {
		case c.room <- struct{}{}:
		default:
		}
	}
	b := c.backlog
	if total := b.total.Add(-n); total < b.limit && total+n >= b.limit {
		b.mu.Lock()
		close(b.room)
		b.room = make(chan struct{})
		b.mu.Unlock()
	}
}

type watchedKey struct{}

// connContext is for http.Server.ConnContext: it lets a request find its connection.
func connContext(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		if w, ok := t.NetConn().(*watched); ok {
			return context.WithValue(ctx, watchedKey{}, w)
		}
	}
	return ctx
}
