// Package busy slows a client down for servers that have too many requests.
//
// Use New once for a run, and Transport for each client of it. After 429, or 503 with Retry-After,
// no client sends that host a request until the time that it asked for has passed. Then requests
// go out one by one, at intervals that grow with each further such answer and shrink with others.
// The refused request is sent again, so the caller sees its last answer only, and keeps the answers
// that other requests have got.
//
// Refused: golang.org/x/time/rate. It holds a rate that is known beforehand, and a registry's is
// not. Also refused: a limit in each client. A registry that is read and filled counts both.
package busy

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/internal/retry"
)

// Patience is how long a request waits in all.
const Patience = 10 * time.Minute

const (
	maxAfter = 2 * time.Minute // a server that asks for hours is asked again before
	firstGap = 10 * time.Millisecond
	maxGap   = 2 * time.Second
)

// backoff is how long a host rests that names no time.
var backoff = retry.Policy{First: 500 * time.Millisecond, MaxAfter: maxAfter}

// Limits knows which hosts are busy.
type Limits struct {
	now func() time.Time
	log *slog.Logger

	mu    sync.Mutex       // guards the rest
	hosts map[string]*host // by host[:port]; one without an entry is not busy
}

// host is a busy host.
type host struct {
	rest     time.Time     // until then it gets no request
	next     time.Time     // when the next request may go out, rest or later
	gap      time.Duration // between two requests
	failures int           // rests since an answer that was not a refusal
	waited   time.Duration // in these rests
}

// New returns limits under which no host is busy. now is nil for time.Now, log nil to discard.
func New(now func() time.Time, log *slog.Logger) *Limits {
	if now == nil {
		now = time.Now
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Limits{now: now, log: log, hosts: map[string]*host{}}
}

// Exhausted reports whether a host has refused everything for so long that it is given up.
func (l *Limits) Exhausted(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.hosts[name]
	return h != nil && h.waited >= Patience
}

// resting reports whether a host that is given up would have to be waited for.
func (l *Limits) resting(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.hosts[name]
	return h != nil && h.waited >= Patience && l.now().Before(h.rest)
}

// Busy reports whether an answer asks for fewer requests.
func Busy(resp *http.Response) bool {
	return resp.StatusCode == http.StatusTooManyRequests ||
		resp.StatusCode == http.StatusServiceUnavailable && retry.After(resp) > 0
}

// slot is when a request may go out.
type slot struct {
	wait time.Duration
	rest time.Time // of the host when the slot was taken
}

func (l *Limits) take(name string) slot {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.hosts[name]
	if h == nil {
		return slot{}
	}
	now := l.now()
	at := h.next
	if at.Before(now) {
		at = now
	}
	h.next = at.Add(h.gap)
	return slot{wait: at.Sub(now), rest: h.rest}
}

// holds reports whether no rest began since a slot was taken.
func (l *Limits) holds(name string, s slot) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.hosts[name]
	return h == nil || h.rest.Equal(s.rest)
}

// refused begins a rest, or makes the one longer that began while the request was under way. It
// returns how long the host rests.
func (l *Limits) refused(name string, s slot, after time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.hosts[name]
	if h == nil {
		h = &host{}
		l.hosts[name] = h
	}
	now := l.now()
	if !h.rest.Equal(s.rest) { // another request of the same burst was refused before
		if until := now.Add(min(after, maxAfter)); until.After(h.rest) {
			h.rest, h.next = until, until
		}
		return max(h.rest.Sub(now), 0)
	}
	h.failures++
	h.gap = min(max(h.gap+h.gap/2, firstGap), maxGap)
	rest := backoff.Delay(h.failures, after)
	h.waited += rest
	h.rest = now.Add(rest)
	h.next = h.rest
	l.log.Warn("the registry has too many requests, all wait", "registry", name, "for", rest.Round(time.Millisecond))
	return rest
}

// answered notes an answer that is not a refusal.
func (l *Limits) answered(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.hosts[name]
	if h == nil {
		return
	}
	h.failures, h.waited = 0, 0
	if h.gap -= h.gap / 64; h.gap < firstGap/10 {
		h.gap = 0
	}
}

// Transport limits the requests of one client. sleep waits, and returns early, with ctx's error,
// when ctx ends; nil is retry.Sleep.
func (l *Limits) Transport(inner http.RoundTripper,
	sleep func(ctx context.Context, d time.Duration) error) http.RoundTripper {
	if sleep == nil {
		sleep = retry.Sleep
	}
	return &transport{limits: l, inner: inner, sleep: sleep}
}
