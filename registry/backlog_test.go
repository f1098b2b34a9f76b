package registry

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"
)

// watchedPair is a watched connection and its other end.
func watchedPair(t *testing.T, b *backlog) (c *watched, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	far, err = net.Dial("tcp", l.Addr().String())
	must(t, err)
	near, err := b.watch(l).Accept()
	must(t, err)
	t.Cleanup(func() { far.Close(); near.Close() })
	return near.(*watched), far
}

// arrive sends n bytes and lets the near end read them.
func arrive(t *testing.T, c *watched, far net.Conn, n int) {
	t.Helper()
	_, err := far.Write(make([]byte, n))
	must(t, err)
	_, err = io.ReadFull(c, make([]byte, n))
	must(t, err)
}

func TestBacklog_counts(t *testing.T) {
	b := newBacklog(1000, 100)
	c, far := watchedPair(t, b)
	answer := func() {
		t.Helper()
		_, err := c.Write([]byte("answer"))
		must(t, err)
	}
	arrive(t, c, far, 500)
	answer()
	if got := b.total.Load(); got != 0 {
		t.Errorf("%d bytes are waiting after an answer to a request without a body", got)
	}
	arrive(t, c, far, 100) // before its handler begins
	c.begin()
	c.begin()
	arrive(t, c, far, 600)
	answer()
	c.taken(200)
	if got := b.total.Load(); got != 500 {
		t.Errorf("%d bytes are waiting, not 500", got)
	}
	c.end()
	if got := b.total.Load(); got != 500 {
		t.Errorf("%d bytes are waiting while a body is under way, not 500", got)
	}
	c.taken(600) // what was forgotten already
	if got, mine := b.total.Load(), c.waiting.Load(); got != 0 || mine != 0 {
		t.Errorf("%d bytes are waiting, %d of the connection, when more was taken than counted", got, mine)
	}
	arrive(t, c, far, 300)
	c.end()
	if got := b.total.Load(); got != 0 {
		t.Errorf("%d bytes are waiting when no body is under way", got)
	}
	arrive(t, c, far, 300)
	must(t, c.Close())
	if got := b.total.Load(); got != 0 {
		t.Errorf("%d bytes are waiting on a connection that is closed", got)
	}
}

// A read may end when its connection has been closed already.
func TestBacklog_readThatEndsLate(t *testing.T) {
	b := newBacklog(1000, 100)
	c, far := watchedPair(t, b)
	c.closed.Store(true)
	arrive(t, c, far, 300)
	if got := b.total.Load(); got != 0 {
		t.Errorf("%d bytes are waiting for ever", got)
	}
}

func TestBacklog_readsArePutOff(t *testing.T) {
	for name, room := range map[string]func(behind, other *watched){
		"until its own handler has read":       func(behind, _ *watched) { behind.taken(1000) },
		"until the handlers of others have":    func(_, other *watched) { other.taken(900) },
		"until the bodies of others are ended": func(_, other *watched) { other.end() },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBacklog(1500, 100)
			b.patience = time.Hour // a read that nobody wakes ends the test by its time limit
			behind, far := watchedPair(t, b)
			other, otherFar := watchedPair(t, b)
			behind.begin()
			other.begin()
			arrive(t, other, otherFar, 900)
			arrive(t, behind, far, 1000)
			if !behind.tooFarAhead() {
				t.Fatal("a connection with more than its share is read while too much is waiting")
			}
			small, smallFar := watchedPair(t, b)
			small.begin()
			arrive(t, small, smallFar, 50) // has not had its share, and need not wait
			done := make(chan struct{})
			go func() {
				defer close(done)
				behind.pause()
			}()
			for b.paused.Load() == 0 {
				runtime.Gosched()
			}
			room(behind, other)
			<-done
		})
	}
}

func TestBacklog_patienceEnds(t *testing.T) {
	b := newBacklog(10, 1)
	c, far := watchedPair(t, b)
	c.begin()
	arrive(t, c, far, 10)
	arrive(t, c, far, 1) // nobody reads bodies, and what else is on the connection comes all the same
}
