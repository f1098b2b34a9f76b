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
	"github.com/mirror-appliance/appliance/registry/limits"
)

const (
	drainLimit = 30 * time.Second
	// cutLimit is how long handlers may continue after their connections are closed: a write to a
	// slow disk may be under way.
	cutLimit = 10 * time.Second
	// headerLimit bounds the time for a request's header, and for the rest of its body after the
	// answer.
	headerLimit = 15 * time.Second
	// maxStreams bounds the requests under way on an HTTP/2 connection.
	maxStreams = 100
)

// server is an http.Server on one listener.
type server struct {
	http     *http.Server
	listener net.Listener
	limits   *limits.Connections // nil without TLS
	handlers *sync.RWMutex       // read-locked by each handler, locked when no more may begin
}

// listen opens the listeners that were not given, and returns the servers of all.
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
	servers := []*server{newServer(d.observe("local", d.local(d.admin)), d.log, control)}
	handler, connections := d.public(), limits.New(d.limits)
	d.health.places = connections.Exhausted
	for _, l := range public {
		s := newServer(handler, d.log, l)
		s.limits = connections
		s.http.TLSConfig = d.tls.TLSConfig()
		if s.listener, err = connections.Apply(s.http, l); err != nil {
			return nil, errors.Join(err, control.Close(), closeAll(public))
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
				panic(http.ErrAbortHandler) // the connections are being closed
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
		// A whole request has no limit: a blob takes as long as it takes.
		ReadHeaderTimeout: headerLimit,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReceiveBufferPerConnection: limits.Window, // handed out bit by bit
			MaxReceiveBufferPerStream:     limits.Window,
			SendPingTimeout:               time.Minute, // finds peers that are gone
			WriteByteTimeout:              defaultPatience.answer,
		},
		// net/http logs the noise of clients: scanners, health checks of load balancers, clients
		// that do not trust our CA. Panics are logged by observe.
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
}

// boundRest returns a function to call after the handler. Before a short answer, and after a long
// one, net/http waits for the rest of the body: without a limit a client could hold a connection
// for ever. An answer to GET can be long, and no handler reads its body: net/http must not wait for
// it.
func boundRest(w http.ResponseWriter, r *http.Request) func() {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		w.Header().Set("Connection", "close")
	}
	return func() { _ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(headerLimit)) }
}

// dropRest is boundRest for HTTP/2: a body that no handler reads is discarded at once, not when the
// client has taken the answer. The server resets the stream after the answer.
func dropRest(r *http.Request) func() {
	body := r.Body
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		_ = body.Close()
	}
	return func() { _ = body.Close() }
}

func (s *server) serve() error {
	var err error
	if s.limits != nil {
		err = s.http.ServeTLS(s.listener, "", "")
	} else {
		err = s.http.Serve(s.listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve on %s: %w", s.listener.Addr(), err)
}

// drain waits for requests under way until ctx ends, and then cuts them off. The error wraps
// errStillServing if that does not end them.
func (s *server) drain(ctx context.Context) error {
	if s.limits != nil {
		_ = s.listener.Close() // with systemd's socket, clients that come now wait for the next daemon
		s.limits.AwaitRequests(ctx)
	}
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("drain %s: %w", s.listener.Addr(), err), s.cut())
	}
	return nil
}

// errStillServing reports handlers that continue although their connections are closed.
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
