package blobs3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// serveSlowly returns a server that takes few bytes ahead of its handler, and an address of it with TLS or without.
func serveSlowly(t *testing.T, secure bool, handle http.HandlerFunc) *httptest.Server {
	t.Helper()
	listen := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		control := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10) })
		return errors.Join(control, err)
	}}
	l, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handle)
	if err := server.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	server.Listener = l
	t.Cleanup(server.Close)
	if secure {
		server.StartTLS()
	} else {
		server.Start()
	}
	return server
}

// put sends a body with a client of a server, and reads the answer.
func put(server *httptest.Server, body []byte) func(context.Context) error {
	return func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPut, server.URL, bytes.NewReader(body))
		if err != nil {
			return err
		}
		resp, err := server.Client().Do(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
}

// A request is ended while nothing of it moves, and is not made again.
func TestListen_silence(t *testing.T) {
	for name, handle := range map[string]http.HandlerFunc{
		"it takes nothing": func(_ http.ResponseWriter, r *http.Request) { time.Sleep(time.Second) },
		"it takes all": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		},
		"it answers nothing after the head": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			server := serveSlowly(t, false, func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				handle(w, r)
			})
			s := &Storage{silence: 200 * time.Millisecond}
			err := s.within(t.Context(), "send", time.Hour, nil, put(server, make([]byte, 8<<20)))
			if !errors.As(err, new(*silentError)) || !errors.Is(err, blobstore.ErrUnavailable) || hint.Of(err) == "" || asked.Load() > 1 {
				t.Errorf("after %d requests: %v, hint %q", asked.Load(), err, hint.Of(err))
			}
		})
	}
}

// A request that takes longer than the silence goes on while bytes of it move.
func TestListen_slow(t *testing.T) {
	const pieces, pause = 120, 50 * time.Millisecond
	for name, secure := range map[string]bool{"http": false, "https": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := serveSlowly(t, secure, func(w http.ResponseWriter, r *http.Request) {
				for range pieces {
					_, _ = io.CopyN(io.Discard, r.Body, 16<<10)
					time.Sleep(pause)
				}
				for range pieces {
					_, _ = w.Write([]byte("piece"))
					_ = http.NewResponseController(w).Flush()
					time.Sleep(pause)
				}
			})
			s := &Storage{silence: pieces * pause * 2 / 3}
			if err := s.within(t.Context(), "send", time.Hour, nil, put(server, make([]byte, pieces*16<<10))); err != nil {
				t.Error(err)
			}
		})
	}
}

// A request that has the storage work goes on while the storage answers others.
func TestListen_work(t *testing.T) {
	worked, left := make(chan struct{}), make(chan struct{})
	server := serveSlowly(t, false, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-worked:
		case <-r.Context().Done():
			close(left)
		}
	})
	s := &Storage{silence: 100 * time.Millisecond}
	asked := 0
	lives := func(context.Context) bool {
		if asked++; asked == 3 {
			close(worked)
		}
		return true
	}
	if err := s.within(t.Context(), "copy", time.Hour, lives, put(server, nil)); err != nil || asked < 3 {
		t.Errorf("after %d questions: %v", asked, err)
	}
	worked = nil
	err := s.within(t.Context(), "copy", time.Hour, func(context.Context) bool { return false }, put(server, nil))
	if !errors.As(err, new(*silentError)) {
		t.Errorf("when it does not answer: %v", err)
	}
	<-left
}
