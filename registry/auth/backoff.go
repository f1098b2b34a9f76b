package auth

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Failed logins are answered with 429 and Retry-After once there are too many of them. They are
// counted under three keys, because a plain count of failures by address has victims: a node with an
// old pull secret fails all day long, and behind the same NAT there are the other nodes and the admin.
//
//   - the credentials themselves, from one address: sent again they fail again, and so they are refused
//     without another bcrypt. That is the node with the old secret, and nobody else.
//   - one user name, from one address: counts only credentials not seen before. That is guessing.
//   - the address: likewise, for guessing over many names.
//
// There is no count by user name over all addresses: anybody could lock an administrator out with it.
//
// Nothing waits: a refusal costs a map lookup, holds no goroutine and tells the client when to come
// back. Credentials that this very address has logged in with lately are let through to the cache
// in any case. That gives whoever shares an address with a user, and only them, an unhurried way
// of guessing that user's password; the other way round they could lock that user out for good.
type backoff struct {
	now func() time.Time

	mu      sync.Mutex // guards what follows; held for map operations only
	entries map[any]*failures
	lately  map[credentialKey]time.Time // of the last login
}

type (
	credentialKey struct {
		source netip.Prefix
		d      digest
	}
	nameKey struct {
		source netip.Prefix
		name   string
	}
	sourceKey struct{ source netip.Prefix }
)

// failures are those counted under one key.
type failures struct {
	name  string // of the user, where there is one
	count int
	until time.Time // nobody is let through before this
	last  time.Time
}

const (
	freePerCredentials = 5  // a person who does not believe it, a client that retries
	freePerName        = 5  // typing errors
	freePerSource      = 20 // typing errors of all who share an address

	firstDelay = time.Second
	maxDelay   = time.Minute      // short: it is also what an honest user waits
	forgetting = 15 * time.Minute // after the last failure

	// maxCounted bounds each of the maps: some 6 MB, when somebody with many addresses is at it.
	maxCounted = 16384
)

func newBackoff(now func() time.Time) *backoff {
	return &backoff{now: now, entries: make(map[any]*failures), lately: make(map[credentialKey]time.Time)}
}

// An attempt is a login that was let through, until it is known how it ended. What it may cost is
// charged beforehand, so that a thousand guesses at once are not a thousand free ones.
type attempt struct {
	keys    []any // charged
	own     credentialKey
	named   nameKey
	counted bool // false: there is nobody to count against
	fresh   bool // the last login is young enough not to be noted again
}

// admit lets an attempt through, or says how long to wait.
func (b *backoff) admit(source netip.Prefix, name string, d digest) (attempt, time.Duration) {
	if !source.IsValid() {
		return attempt{}, 0 // a unix socket: its file mode is the guard
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	a := attempt{own: credentialKey{source, d}, named: nameKey{source, name}, counted: true}
	if last, ok := b.lately[a.own]; ok && now.Sub(last) < forgetting {
		a.fresh = now.Sub(last) < forgetting/2
		return a, 0
	}
	if f := b.entry(a.own, now); f != nil { // seen before: no news to anybody who guesses
		if wait := f.until.Sub(now); wait > 0 {
			return attempt{}, wait
		}
		return a, 0
	}
	charged := []any{a.named, sourceKey{source}}
	for _, key := range charged {
		if f := b.entry(key, now); f != nil && f.until.After(now) {
			return attempt{}, f.until.Sub(now)
		}
	}
	b.charge(a.own, name, now, 0)
	b.charge(charged[0], name, now, freePerName)
	b.charge(charged[1], "", now, freePerSource)
	a.keys = charged
	return a, 0
}

// failed notes that the credentials were wrong.
func (b *backoff) failed(a attempt) {
	if !a.counted {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.lately, a.own)
	b.charge(a.own, a.named.name, b.now(), freePerCredentials)
}

// succeeded forgets what was held against this user at this address. The address keeps what
// others did: else one valid account would buy guesses at all others.
func (b *backoff) succeeded(a attempt) {
	if !a.counted || a.fresh {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refund(a)
	delete(b.entries, a.own)
	delete(b.entries, a.named)
	if _, ok := b.lately[a.own]; !ok {
		makeRoom(b.lately, func(last time.Time) bool { return b.now().Sub(last) >= forgetting })
	}
	b.lately[a.own] = b.now()
}

// undecided takes back what was charged: the store failed, or the client went away before the answer.
func (b *backoff) undecided(a attempt) {
	if !a.counted {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refund(a)
	if len(a.keys) > 0 {
		delete(b.entries, a.own) // else the next one would not be charged
	}
}

// forget drops what is held against a name: what was wrong may be right now, and the reverse.
func (b *backoff) forget(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, f := range b.entries {
		if f.name == name {
			delete(b.entries, key)
		}
	}
}

// entry finds what is not forgotten; the caller holds mu, as for all that follows.
func (b *backoff) entry(key any, now time.Time) *failures {
	f, ok := b.entries[key]
	if ok && now.Sub(f.last) >= forgetting {
		delete(b.entries, key)
		return nil
	}
	return f
}

// charge counts one more. With free 0 it only notes that the key has been seen.
func (b *backoff) charge(key any, name string, now time.Time, free int) {
	f := b.entry(key, now)
	if f == nil {
		makeRoom(b.entries, func(f *failures) bool { return now.Sub(f.last) >= forgetting })
		f = &failures{name: name}
		b.entries[key] = f
	}
	f.last = now
	if free == 0 {
		return
	}
	f.count++
	if f.count >= free {
		f.until = now.Add(delay(f.count - free))
	}
}

func (b *backoff) refund(a attempt) {
	for _, key := range a.keys {
		if f, ok := b.entries[key]; ok {
			if f.count--; f.count <= 0 {
				delete(b.entries, key)
			}
			f.until = time.Time{}
		}
	}
}

// delay doubles with each failure beyond the free ones.
func delay(beyond int) time.Duration {
	if beyond > 6 {
		return maxDelay
	}
	return min(firstDelay<<beyond, maxDelay)
}

// makeRoom keeps a map within its bound: first what is forgotten anyway goes, then anything, and
// enough of it that the next thousands need no sweep.
func makeRoom[K comparable, V any](m map[K]V, forgotten func(V) bool) {
	if len(m) < maxCounted {
		return
	}
	for key, v := range m {
		if forgotten(v) {
			delete(m, key)
		}
	}
	for key := range m {
		if len(m) <= maxCounted*7/8 {
			return
		}
		delete(m, key)
	}
}

// SourceOf is whom a failure is counted against: an IPv4 address, or an IPv6 /64, which is what one
// customer has. It is the peer of the connection: what a proxy says in a header, anybody can say.
// The zero Prefix is no address at all.
func SourceOf(remote string) netip.Prefix {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	addr = addr.Unmap().WithZone("")
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
