package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin"
)

const (
	drainLimit = 30 * time.Second
	// cutLimit is how long handlers may go on whose connections are closed: until a write that they are in the middle
	// of is on a slow disk.
	cutLimit = 10 * time.Second
	// headerLimit is how long the header of a request may take, and what is left of its body after the answer.
	headerLimit = 15 * time.Second
	// maxStreams is how many requests an HTTP/2 connection may have under way.
	maxStreams = 100
)

// server is an http.Server on one listener.
type server struct {
	http     *http.Server
	listener net.Listener
	tls      bool
	handlers *sync.RWMutex // read-held by each handler, held when no more are to begin
}

// listen opens the listeners that were not given, and makes the servers of all of them.
func (d *daemon) listen(ctx context.Context) ([]*server, error) {
	public := d.given.Listeners
	if len(public) == 0 {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", d.cfg.Listen)
		if err != nil {
			return nil, listenError(d.cfg.Listen, err)
		}
		public = []net.Listener{l}
	}
	control, err := admin.Listen(ctx, d.cfg.ControlSocket)
	if err != nil {
		return nil, errors.Join(err, closeAll(public))
	}
	servers := []*server{newServer(d.local(), d.log, control)}
	handler, connections, ws := d.public(), newConnections(d.limits, time.Now), &windows{limit: windowsLimit}
	d.health.places = connections.exhausted
	for _, l := range public {
		s := newServer(handler, d.log, connections.watch(l))
		s.tls = true
		s.http.ConnContext = connContext
		s.http.ConnState = connections.stateChanged
		s.http.TLSConfig = d.tls.TLSConfig()
		if err := ws.serveHTTP2(s.http, connections.opened); err != nil {
			return nil, errors.Join(fmt.Errorf("prepare HTTP/2: %w", err), control.Close(), closeAll(public))
		}
		servers = append(servers, s)
	}
	return servers, nil
}

func newServer(h http.Handler, log *slog.Logger, l net.Listener) *server {
	handlers := new(sync.RWMutex)
	return &server{listener: l, handlers: handlers, http: &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !handlers.TryRLock() {
				panic(http.ErrAbortHandler) // it came when its connection was cut off
			}
			defer handlers.RUnlock()
			switch {
			case r.Body == http.NoBody:
			case r.ProtoMajor == 1:
				defer boundRest(w, r)()
			default:
				defer dropRest(r)()
			}
			h.ServeHTTP(w, r)
		}),
		// No bound on the time of a whole request: a blob takes as long as it takes.
		ReadHeaderTimeout: headerLimit,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReceiveBufferPerConnection: window, // which a connection is given bit by bit, see windows
			MaxReceiveBufferPerStream:     window,
			// A peer that went away without a word is noticed, and its streams end.
			SendPingTimeout: time.Minute,
			// So is one that takes nothing. With HTTP/1.1 the deadline of an answer sees to that.
			WriteByteTimeout: answerPatience,
		},
		// What net/http logs is the noise of clients: scanners, health checks of load
		// balancers, those that do not trust our CA. Panics do not come here, see observe.
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
}

// boundRest returns a function to call when the handler has returned. Before a short answer, and after a long one,
// net/http waits for the part of the body that the handler has not read: without a limit a client could hold a connection
// for ever, with or without a login. An answer to GET can be long, and no handler reads its body: net/http must not wait
// for it before the answer.
func boundRest(w http.ResponseWriter, r *http.Request) func() {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		w.Header().Set("Connection", "close")
	}
	return func() { _ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(headerLimit)) }
}

// dropRest is boundRest for HTTP/2: what came of a body that no handler reads is thrown away at once, not when the
// client has taken the answer. The server resets the stream when the answer is out.
func dropRest(r *http.Request) func() {
	body := r.Body
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		_ = body.Close()
	}
	return func() { _ = body.Close() }
}

func (s *server) serve() error {
	var err error
	if s.tls {
		err = s.http.ServeTLS(s.listener, "", "")
	} else {
		err = s.http.Serve(s.listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve on %s: %w", s.listener.Addr(), err)
}

// drain waits for requests under way until ctx ends, and then cuts them off. errStillServing is in the error if even
// that does not end them.
func (s *server) drain(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("drain %s: %w", s.listener.Addr(), err), s.cut())
	}
	return nil
}

// errStillServing says that handlers go on although their connections are closed.
var errStillServing = errors.New("requests that were cut off have not ended")

// cut closes all connections and waits for their handlers, which http.Server.Close does not.
func (s *server) cut() error {
	err := s.http.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.handlers.Lock() // for good
	}()
	select {
	case <-ended:
		return err
	case <-time.After(cutLimit):
		return errors.Join(err, fmt.Errorf("%s: %w", s.listener.Addr(), errStillServing))
	}
}

func listenError(address string, err error) error {
	err = fmt.Errorf("listen on %s: %w", address, err)
	_, port, _ := net.SplitHostPort(address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return hint.New(err, fmt.Sprintf("another program listens there: find it with ss -ltnp 'sport = :%s' and stop it, or choose another port", port))
	case errors.Is(err, os.ErrPermission):
		return hint.New(err, "ports below 1024 are for root: choose a higher one, or let systemd do the listening")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return hint.New(err, "this host has no such address: write ':"+port+"' to listen on all that it has")
	}
	return err
}
