package limits

//lint:file-ignore SA1019 net/http's own HTTP/2 server, which these deprecations name, serves no connection but a *tls.Conn

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
)

const (
	// Window is how much a client may send ahead of our reads, on a connection and on a stream.
	// With Go's 1 MiB an upload over a link of 40 ms is six times slower.
	Window = 16 << 20
	// firstWindow is what HTTP/2 lets every client send ahead. An anonymous client gets no more.
	firstWindow = 65535
	// leastWindow is the share of each upload, so that none waits for others.
	leastWindow = 256 << 10
	// windowsLimit bounds the bytes sent ahead on all connections, beside leastWindow for each.
	windowsLimit = 64 << 20
)

// windows bounds the memory of HTTP/2's receive windows. What a client sends ahead of its handler
// waits in memory: 64 uploads that arrive faster than the disk takes them filled a gigabyte, and
// anonymous clients could do the same. So the HTTP/2 server believes that each connection has its
// window, and the connection hands it on: none before a login, then as much as there is for all.
type windows struct {
	limit int64

	mu   sync.Mutex // guards what follows, and the same of each windowed
	used int64      // claimed beyond firstWindow, on all connections
	open int64      // connections that claim more than firstWindow
}

// windowed is an HTTP/2 connection whose window is handed out bit by bit. It withholds each
// WINDOW_UPDATE of the connection that the server writes, and sends its own when there is room.
//
// A claim is what the client may still send and what waits for its handlers. It grows by what is
// handed out, and falls by what the server hands back as handlers read.
type windowed struct {
	*tls.Conn
	all *windows

	in frames // only the server's reader uses it

	writing sync.Mutex // held for each write; guards out and scratch; taken before windows.mu
	out     frames
	scratch []byte

	credit  atomic.Int64 // what the client may still send
	pending atomic.Int64 // to be sent as a WINDOW_UPDATE

	// guarded by all.mu
	claim  int64
	owed   int64 // what the server has handed out and the client does not have
	wanted int64 // as much of the window as its bodies need
	closed bool
}

// serveHTTP2 makes s serve HTTP/2 on windowed connections. net/http's own HTTP/2 server accepts a
// *tls.Conn only.
func (ws *windows) serveHTTP2(s *http.Server, opened func(*tls.Conn, *windowed)) error {
	h2 := &http2.Server{}
	if err := http2.ConfigureServer(s, h2); err != nil {
		return err
	}
	s.TLSNextProto[http2.NextProtoTLS] = func(hs *http.Server, c *tls.Conn, h http.Handler) {
		w := ws.watch(c)
		defer w.release()
		opened(c, w)
		o := &http2.ServeConnOpts{Handler: h, BaseConfig: hs}
		if base, ok := h.(interface{ BaseContext() context.Context }); ok {
			o.Context = base.BaseContext()
		}
		h2.ServeConn(w, o)
	}
	return nil
}

func (ws *windows) watch(c *tls.Conn) *windowed {
	w := &windowed{Conn: c, all: ws, claim: firstWindow, wanted: firstWindow,
		in: frames{left: len(http2.ClientPreface)}}
	w.credit.Store(firstWindow)
	return w
}

// widen hands out window for an admitted body of size bytes, -1 if the size is unknown.
func (w *windowed) widen(size int64) {
	if size < 0 || size > Window {
		size = Window
	}
	w.all.mu.Lock()
	w.wanted = max(w.wanted, size)
	w.hand()
	w.all.mu.Unlock()
	w.flush()
}

// hand hands out what there is room for. The caller holds all.mu.
func (w *windowed) hand() {
	if w.closed {
		return
	}
	share := max(w.all.limit/max(w.all.open, 1), leastWindow)
	n := min(w.owed, min(w.wanted, share)-w.claim)
	if room := w.all.limit - w.all.used; n > room {
		n = max(room, min(n, leastWindow-w.claim))
	}
	if n <= 0 {
		return
	}
	w.setClaim(w.claim + n)
	w.owed -= n
	w.credit.Add(n)
	w.pending.Add(n)
}

// setClaim also counts the claim. The caller holds all.mu.
func (w *windowed) setClaim(n int64) {
	before, after := max(0, w.claim-firstWindow), max(0, n-firstWindow)
	w.all.used += after - before
	switch {
	case before == 0 && after > 0:
		w.all.open++
	case before > 0 && after == 0:
		w.all.open--
	}
	w.claim = n
}

// release ends the claim.
func (w *windowed) release() {
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	w.setClaim(0)
	w.closed = true
}

// returned takes a WINDOW_UPDATE of the connection from the server. The first is the window itself,
// the others are what handlers have read.
func (w *windowed) returned(n int64) {
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	if w.owed > 0 || w.claim != firstWindow || n != Window-firstWindow {
		w.setClaim(w.claim - n)
	}
	w.owed += n
	w.hand() // the first as well: a request may have been admitted before the server wrote it
}

var errWindow = errors.New("the client sends more than its window")

// Read fails when the client exceeds its window.
func (w *windowed) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	var data int64
	w.in.scan(p[:n], func(f frame) bool {
		if f.kind == http2.FrameData {
			data += int64(f.length)
		}
		return true
	}, nil)
	if data > 0 && w.credit.Add(-data) < 0 {
		return 0, errWindow
	}
	return n, err
}

// Write withholds each WINDOW_UPDATE of the connection and sends its own.
func (w *windowed) Write(p []byte) (int, error) {
	w.writing.Lock()
	n, err := w.write(p)
	w.writing.Unlock()
	if err == nil {
		w.flush() // what was handed out while this was written
	}
	return n, err
}

func (w *windowed) write(p []byte) (int, error) {
	if w.pending.Load() == 0 && w.out.passes(p) {
		return w.Conn.Write(p)
	}
	w.scratch = w.scratch[:0]
	w.out.scan(p, func(f frame) bool { return !f.isWindow() }, w)
	if w.out.atBoundary() {
		w.scratch = w.appendPending(w.scratch)
	}
	if len(w.scratch) > 0 {
		if _, err := w.Conn.Write(w.scratch); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// flush sends what was handed out. A write under way does so itself, and so does the next write of
// a frame that is half written.
func (w *windowed) flush() {
	for w.pending.Load() > 0 && w.writing.TryLock() {
		inFrame := !w.out.atBoundary()
		var err error
		if !inFrame {
			_, err = w.Conn.Write(w.appendPending(nil))
		}
		w.writing.Unlock()
		if err != nil || inFrame {
			return // the server has the same error at its next write
		}
	}
}

// appendPending appends the frame that hands out what is pending.
func (w *windowed) appendPending(to []byte) []byte {
	n := w.pending.Swap(0)
	if n == 0 {
		return to
	}
	to = append(to, 0, 0, 4, byte(http2.FrameWindowUpdate), 0, 0, 0, 0, 0)
	return binary.BigEndian.AppendUint32(to, uint32(n))
}
