package registry

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/auth"
)

const (
	// maxConnections is for memory: a connection over TLS costs some 100 KiB while it is idle.
	maxConnections = 4096
	// maxRequests is how many requests are answered at once. Each may have a file open.
	maxRequests = 8192
	// maxRefusals is how many requests without a login may be having their refusal at once, each for some 30 KiB.
	maxRefusals = 512
	// refusalsEach is how many a connection may have also when there are more than that, up to maxRefusals times this.
	refusalsEach = 8
	// ownFiles are descriptors that are not for clients: the database, the jobs, the upstreams.
	ownFiles = 64
	// ownPlaces are places for connections from this host when all others are taken: a health check that finds no place
	// reads as a registry that is down.
	ownPlaces = 8
	// strangerTime is how long a connection may go on without a login when others want its place.
	strangerTime = 10 * time.Second
)

// limits bound what clients hold: all together, and one of them. One address may be many nodes behind NAT, or a proxy,
// and all nodes of a cluster share one user: one may have half.
type limits struct {
	connections, requests int
	refusals              int

	// how long a client may take none of an answer, and of a refusal, which is short
	answer, refusal time.Duration
}

// limitsOf divides the descriptors that the process may have.
func limitsOf(files uint64) limits {
	free := int(min(files, 1<<20)) - ownFiles
	connections := max(16, min(maxConnections, free/2))
	return limits{connections: connections, requests: max(16, min(maxRequests, free-connections)), refusals: maxRefusals,
		answer: answerPatience, refusal: refusalPatience}
}

// descriptors is how many files the process may have open. The Go runtime has raised the soft limit to the hard one.
func descriptors() uint64 {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 1024
	}
	return l.Cur
}

func half(n int) int { return (n + 1) / 2 }

// connections counts the connections and requests of the public listeners and keeps them below the limits, so that no
// client can take the descriptors from the others. When there are too many, idle connections are closed, those without
// a login and the longest idle first: their clients open new ones when they need them.
type connections struct {
	limits limits
	now    func() time.Time

	mu        sync.Mutex // guards what follows, and the same of each connection
	open      map[*connection]struct{}
	addresses map[netip.Prefix]int
	users     map[string]int
	requests  map[string]int // under way, by user
	answering int            // all of these
	refusing  int
}

func newConnections(l limits, now func() time.Time) *connections {
	return &connections{limits: l, now: now, open: make(map[*connection]struct{}), addresses: make(map[netip.Prefix]int),
		users: make(map[string]int), requests: make(map[string]int)}
}

// connection is one that is counted. It is below TLS.
type connection struct {
	net.Conn
	all    *connections
	source netip.Prefix

	// guarded by all.mu
	user     string // of the first login
	admitted bool   // a request on it was let through
	busy     bool   // a request is under way
	since    time.Time
	refusing int
	window   *windowed // nil with HTTP/1
}

// watch makes the connections of l count.
func (cs *connections) watch(l net.Listener) net.Listener { return &countedListener{l, cs} }

type countedListener struct {
	net.Listener
	all *connections
}

func (l *countedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if counted := l.all.add(c); counted != nil {
			return counted, nil
		}
		_ = c.Close() // there is no place, and none can be made
	}
}

// add counts a new connection. It gives nil if there is no place for it.
func (cs *connections) add(c net.Conn) *connection {
	n := &connection{Conn: c, all: cs, source: auth.SourceOf(c.RemoteAddr().String())}
	own := 0
	if isLoopback(c.RemoteAddr().String()) {
		own = ownPlaces
	}
	cs.mu.Lock()
	var victims []*connection
	ok := cs.makeRoom(&victims, cs.addresses[n.source], half(cs.limits.connections)+own, func(o *connection) bool { return o.source == n.source }) &&
		cs.makeRoom(&victims, len(cs.open), cs.limits.connections+own, func(*connection) bool { return true })
	if ok {
		n.since = cs.now()
		cs.open[n] = struct{}{}
		cs.addresses[n.source]++
	}
	cs.mu.Unlock()
	for _, v := range victims {
		_ = v.Conn.Close() // which its server notices
	}
	if !ok {
		return nil
	}
	return n
}

// exhausted lists the kinds of places that are all taken.
func (cs *connections) exhausted() []error {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	var all []error
	if len(cs.open) >= cs.limits.connections {
		all = append(all, hint.New(fmt.Errorf("all %d places for connections are taken", cs.limits.connections), exhaustionHint))
	}
	if cs.answering >= cs.limits.requests {
		all = append(all, hint.New(fmt.Errorf("all %d places for requests are taken", cs.limits.requests), exhaustionHint))
	}
	return all
}

// exhaustionHint is for what clients have taken.
const exhaustionHint = "clients hold them, see ss -tn state established: a restart would end pulls and pushes under way; raise LimitNOFILE of the unit if the load is as it should be"

// makeRoom takes one connection out if as many as limit are there, and reports whether there is room; the caller holds
// mu, and closes the victims.
func (cs *connections) makeRoom(victims *[]*connection, there, limit int, among func(*connection) bool) bool {
	if there < limit {
		return true
	}
	var victim *connection
	for c := range cs.open {
		if among(c) && cs.dispensable(c) > 0 && (victim == nil || cs.sooner(c, victim)) {
			victim = c
		}
	}
	if victim == nil {
		return false
	}
	cs.remove(victim)
	*victims = append(*victims, victim)
	return true
}

// dispensable is higher for what goes first, and 0 for what stays.
func (cs *connections) dispensable(c *connection) int {
	switch {
	case !c.busy && !c.admitted:
		return 3
	case !c.busy:
		return 2
	case !c.admitted && cs.now().Sub(c.since) >= strangerTime:
		return 1
	}
	return 0
}

func (cs *connections) sooner(a, b *connection) bool {
	if x, y := cs.dispensable(a), cs.dispensable(b); x != y {
		return x > y
	}
	return a.since.Before(b.since)
}

// remove counts a connection no more; the caller holds mu.
func (cs *connections) remove(c *connection) {
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
func (c *connection) Close() error {
	c.all.mu.Lock()
	c.all.remove(c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// stateChanged is for http.Server.ConnState.
func (cs *connections) stateChanged(nc net.Conn, state http.ConnState) {
	c := counted(nc)
	if c == nil || state != http.StateActive && state != http.StateIdle {
		return
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c.busy, c.since = state == http.StateActive, cs.now()
}

// counted is the connection below one that net/http knows, nil if it is not counted.
func counted(nc net.Conn) *connection {
	switch t := nc.(type) {
	case *windowed:
		return counted(t.Conn)
	case *tls.Conn:
		return counted(t.NetConn())
	case *connection:
		return t
	}
	return nil
}

// begin counts a request of a user, "" for one without a login, and reports whether there is a place for it. The
// caller calls end. size is that of its body, -1 if it is not known.
func (c *connection) begin(user string, size int64) (ok bool) {
	cs := c.all
	cs.mu.Lock()
	var victims []*connection
	if user != "" && c.user == "" {
		ok = cs.makeRoom(&victims, cs.users[user], half(cs.limits.connections), func(o *connection) bool { return o.user == user })
		if _, open := cs.open[c]; ok && open {
			c.user = user
			cs.users[user]++
		}
	} else {
		ok = true
	}
	if ok = ok && cs.answering < cs.limits.requests && cs.requests[user] < half(cs.limits.requests); ok {
		c.admitted = true
		cs.requests[user]++
		cs.answering++
	}
	window := c.window
	cs.mu.Unlock()
	for _, v := range victims {
		_ = v.Conn.Close()
	}
	if ok && window != nil && size != 0 {
		window.widen(size)
	}
	return ok
}

func (c *connection) end(user string) {
	cs := c.all
	cs.mu.Lock()
	defer cs.mu.Unlock()
	decrement(cs.requests, user)
	cs.answering--
}

// refuse counts an answer to a request that was not let through, and reports whether there is a place for it. A client
// that does not take such answers has few of them waiting. The caller calls refused.
func (c *connection) refuse() bool {
	cs := c.all
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.refusing >= cs.limits.refusals && (c.refusing >= refusalsEach || cs.refusing >= cs.limits.refusals*refusalsEach) {
		return false
	}
	c.refusing++
	cs.refusing++
	return true
}

func (c *connection) refused() {
	cs := c.all
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c.refusing--
	cs.refusing--
}

type connectionKey struct{}

// connContext is for http.Server.ConnContext: it lets a request find its connection.
func connContext(ctx context.Context, nc net.Conn) context.Context {
	if c := counted(nc); c != nil {
		return context.WithValue(ctx, connectionKey{}, c)
	}
	return ctx
}

// opened notes the window of a connection that turned out to speak HTTP/2.
func (cs *connections) opened(t *tls.Conn, w *windowed) {
	if c := counted(t); c != nil {
		cs.mu.Lock()
		defer cs.mu.Unlock()
		c.window = w
	}
}
