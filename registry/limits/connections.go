// Package limits bounds what the peers of the public listeners take: connections, requests, and
// the bytes that they may send ahead over HTTP/2.
//
// New makes the Connections of all listeners, and Apply puts a server and its listener under them.
// A handler finds the connection of its request with ConnOf, and counts the request on it. Before a
// shutdown the listener is closed, and AwaitRequests lets new connections come to their request.
//
// Refused: netutil.LimitListener, under which one address takes every place, and a smaller HTTP/2
// window for all, which slows the one upload that has the line for itself.
package limits

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/registry/auth"
)

const (
	// maxConnections is for memory: an idle connection over TLS costs some 100 KiB.
	maxConnections = 4096
	// maxRequests bounds the requests at a time. Each may have a file open.
	maxRequests = 8192
	// maxRefusals bounds the refusals of anonymous requests at a time. Each costs some 30 KiB.
	maxRefusals = 512
	// refusalsEach is the share of a connection when there are more than that, up to maxRefusals
	// times this.
	refusalsEach = 8
	// formsEach is how many forms of a login, which are read before there is a user, a connection may be
	// sending. A browser sends one; each costs some 25 KiB over HTTP/2.
	formsEach = 4
	// ownFiles are descriptors for the database, the jobs and the upstreams.
	ownFiles = 64
	// ownPlaces are for connections from this host when all others are taken: a health check
	// without a place reads as a registry that is down.
	ownPlaces = 8
	// anonymousTime is how long a connection without a login keeps a place that others want.
	anonymousTime = 10 * time.Second
	// firstRequest is how long a connection that was accepted may take to its first request while
	// the daemon ends: some round trips of TLS.
	firstRequest = time.Second
)

// Limits bound all peers together. An address, which may be many nodes behind NAT, has at most half
// of them, and so has a user, which all nodes of a cluster may share.
type Limits struct {
	Connections, Requests, Refusals int
}

// Default returns the limits that fit the descriptors of this process.
func Default() Limits {
	// The Go runtime has raised the soft limit to the hard one.
	l := syscall.Rlimit{Cur: 1024}
	_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l)
	return limitsOf(l.Cur)
}

func limitsOf(files uint64) Limits {
	free := int(min(files, 1<<20)) - ownFiles
	connections := max(16, min(maxConnections, free/2))
	requests := max(16, min(maxRequests, free-connections))
	return Limits{Connections: connections, Requests: requests, Refusals: maxRefusals}
}

func half(n int) int { return (n + 1) / 2 }

// Connections counts connections and requests and keeps them below the limits, so that no client
// takes the descriptors of others. When there are too many, idle connections are closed, anonymous
// ones and the longest idle first: their clients open new ones when they need them.
type Connections struct {
	limits  Limits
	now     func() time.Time
	windows windows

	mu        sync.Mutex // guards what follows, and the same of each connection
	open      map[*Conn]struct{}
	addresses map[netip.Prefix]int
	users     map[string]int
	requests  map[string]int // under way, by user
	answering int            // all of these
	refusing  int
}

// New returns Connections without any.
func New(l Limits) *Connections {
	return &Connections{
		limits: l, now: time.Now, windows: windows{limit: windowsLimit}, open: make(map[*Conn]struct{}),
		addresses: make(map[netip.Prefix]int), users: make(map[string]int), requests: make(map[string]int),
	}
}

// Conn is a counted connection. It is below TLS.
type Conn struct {
	net.Conn
	all      *Connections
	source   netip.Prefix
	asked    atomic.Bool // a request has come on it
	accepted time.Time

	// guarded by all.mu
	user     string // of the first login
	admitted bool   // a request on it was admitted
	busy     bool   // a request is under way
	since    time.Time
	refusing int
	forms    int
	window   *windowed // nil with HTTP/1
}

// Apply puts a server and its listener under the limits. The server has its TLS configuration and
// is to serve on the listener that Apply returns.
func (cs *Connections) Apply(s *http.Server, l net.Listener) (net.Listener, error) {
	s.ConnState = cs.stateChanged
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, counted(c))
	}
	if err := cs.windows.serveHTTP2(s, cs.speaksHTTP2); err != nil {
		return nil, fmt.Errorf("prepare HTTP/2: %w", err)
	}
	return &listener{Listener: l, all: cs}, nil
}

type listener struct {
	net.Listener
	all    *Connections
	closed atomic.Bool
}

// Close may be called before the server shuts down, which closes the listener again.
func (l *listener) Close() error {
	if l.closed.Swap(true) {
		return nil
	}
	return l.Listener.Close()
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil && l.closed.Load() {
			return nil, http.ErrServerClosed
		}
		if err != nil {
			return nil, err
		}
		if counted := l.all.add(c); counted != nil {
			return counted, nil
		}
		_ = c.Close() // all places are taken by requests
	}
}

// add counts a new connection. It returns nil if there is no place for it.
func (cs *Connections) add(c net.Conn) *Conn {
	n := &Conn{Conn: c, all: cs, source: auth.SourceOf(c.RemoteAddr().String())}
	own := 0
	if IsLoopback(c.RemoteAddr().String()) {
		own = ownPlaces
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	sameAddress := func(o *Conn) bool { return o.source == n.source }
	if !cs.makeRoom(cs.addresses[n.source], half(cs.limits.Connections)+own, sameAddress) ||
		!cs.makeRoom(len(cs.open), cs.limits.Connections+own, func(*Conn) bool { return true }) {
		return nil
	}
	n.accepted = cs.now()
	n.since = n.accepted
	cs.open[n] = struct{}{}
	cs.addresses[n.source]++
	return n
}

// IsLoopback reports whether a peer's address is this host's.
func IsLoopback(remote string) bool {
	a, err := netip.ParseAddrPort(remote)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// Exhausted lists the kinds of places that are all taken.
func (cs *Connections) Exhausted() []error {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	var all []error
	for _, k := range []struct {
		name         string
		taken, limit int
	}{
		{"connections", len(cs.open), cs.limits.Connections},
		{"requests", cs.answering, cs.limits.Requests},
	} {
		if k.taken >= k.limit {
			all = append(all, Exhaustion(fmt.Sprintf("all %d places for %s are taken", k.limit, k.name)))
		}
	}
	return all
}

// Exhaustion returns the error of a resource that clients have used up.
func Exhaustion(problem string) error {
	return hint.New(errors.New(problem), "clients hold them, see ss -tn state established: a restart "+
		"would end pulls and pushes under way; raise LimitNOFILE of the unit if the load is as it should be")
}

// makeRoom closes a dispensable connection if there are as many as limit, and reports whether there
// is room. The caller holds mu. The connection's server notices that it is closed.
func (cs *Connections) makeRoom(there, limit int, among func(*Conn) bool) bool {
	if there < limit {
		return true
	}
	var evicted *Conn
	for c := range cs.open {
		if among(c) && cs.dispensable(c) > 0 && (evicted == nil || cs.sooner(c, evicted)) {
			evicted = c
		}
	}
	if evicted == nil {
		return false
	}
	cs.remove(evicted)
	_ = evicted.Conn.Close()
	return true
}

// dispensable is higher for what goes first, and 0 for what stays.
func (cs *Connections) dispensable(c *Conn) int {
	switch {
	case !c.busy && !c.admitted:
		return 3
	case !c.busy:
		return 2
	case !c.admitted && cs.now().Sub(c.since) >= anonymousTime:
		return 1
	}
	return 0
}

func (cs *Connections) sooner(a, b *Conn) bool {
	if x, y := cs.dispensable(a), cs.dispensable(b); x != y {
		return x > y
	}
	return a.since.Before(b.since)
}

// remove stops counting a connection. The caller holds mu.
func (cs *Connections) remove(c *Conn) {
	if _, ok := cs.open[c]; !ok {
		return
	}
	delete(cs.open, c)
	decrement(cs.addresses, c.source)
	if c.user != "" {
		decrement(cs.users, c.user)
	}
}

func decrement[K comparable](m map[K]int, key K) {
	if m[key]--; m[key] <= 0 {
		delete(m, key)
	}
}

// Close also gives the place back.
func (c *Conn) Close() error {
	c.all.mu.Lock()
	c.all.remove(c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// stateChanged is for http.Server.ConnState.
func (cs *Connections) stateChanged(nc net.Conn, state http.ConnState) {
	c := counted(nc)
	if c == nil || state != http.StateActive && state != http.StateIdle {
		return
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c.busy, c.since = state == http.StateActive, cs.now()
}

// speaksHTTP2 records the window of a connection that turned out to speak HTTP/2.
func (cs *Connections) speaksHTTP2(t *tls.Conn, w *windowed) {
	if c := counted(t); c != nil {
		cs.mu.Lock()
		defer cs.mu.Unlock()
		c.window = w
	}
}

// counted returns the connection below one that net/http knows, nil if it is not counted.
func counted(nc net.Conn) *Conn {
	switch t := nc.(type) {
	case *windowed:
		return counted(t.Conn)
	case *tls.Conn:
		return counted(t.NetConn())
	case *Conn:
		return t
	}
	return nil
}

type connKey struct{}

// ConnOf returns the connection of the request that has this context, nil if it is not counted.
func ConnOf(ctx context.Context) *Conn {
	c, _ := ctx.Value(connKey{}).(*Conn)
	return c
}

// Asked notes that a request has come on the connection, which may be nil.
func (c *Conn) Asked() {
	if c != nil && !c.asked.Load() {
		c.asked.Store(true)
	}
}

// AwaitRequests waits until a request has come on each connection, or it is a second old. A shutdown
// before that answers a new HTTP/2 connection with GOAWAY and no request taken (RFC 9113, 6.8), which
// curl, for one, reports as an error and does not repeat.
func (cs *Connections) AwaitRequests(ctx context.Context) {
	for cs.awaited() {
		if retry.Sleep(ctx, 5*time.Millisecond) != nil {
			return
		}
	}
}

// awaited reports whether there is a connection whose first request may yet come.
func (cs *Connections) awaited() bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for c := range cs.open {
		if !c.asked.Load() && cs.now().Sub(c.accepted) < firstRequest {
			return true
		}
	}
	return false
}

// Begin counts a request of a user, "" for an anonymous one, and reports whether there is a place
// for it, which End gives back. size is the length of its body, -1 if it is unknown.
func (c *Conn) Begin(user string, size int64) bool {
	window, ok := c.begin(user)
	if ok && window != nil && size != 0 {
		window.widen(size)
	}
	return ok
}

func (c *Conn) begin(user string) (window *windowed, ok bool) {
	cs := c.all
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if user != "" && c.user == "" {
		sameUser := func(o *Conn) bool { return o.user == user }
		if !cs.makeRoom(cs.users[user], half(cs.limits.Connections), sameUser) {
			return nil, false
		}
		if _, open := cs.open[c]; open {
			c.user = user
			cs.users[user]++
		}
	}
	if cs.answering >= cs.limits.Requests || cs.requests[user] >= half(cs.limits.Requests) {
		return nil, false
	}
	c.admitted = true
	cs.requests[user]++
	cs.answering++
	return c.window, true
}

// End gives back the place of a request of that user.
func (c *Conn) End(user string) {
	cs := c.all
	cs.mu.Lock()
	defer cs.mu.Unlock()
	decrement(cs.requests, user)
	cs.answering--
}

// BeginRefusal counts the answer to a request that was not admitted, and reports whether there is a
// place for it, which EndRefusal gives back. A client that takes no answers has few of them
// waiting.
func (c *Conn) BeginRefusal() bool {
	cs := c.all
	cs.mu.Lock()
	defer cs.mu.Unlock()
	limit := cs.limits.Refusals
	if cs.refusing >= limit && (c.refusing >= refusalsEach || cs.refusing >= limit*refusalsEach) {
		return false
	}
	c.refusing++
	cs.refusing++
	return true
}

// EndRefusal gives back the place of a refusal.
func (c *Conn) EndRefusal() {
	cs := c.all
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c.refusing--
	cs.refusing--
}

// BeginForm counts the form of a login that is about to be read, and reports whether there is a place for it,
// which EndForm gives back.
func (c *Conn) BeginForm() bool {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	if c.forms >= formsEach {
		return false
	}
	c.forms++
	return true
}

// EndForm gives back the place of a form.
func (c *Conn) EndForm() {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	c.forms--
}
