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
//     without another bcrypt. That is the node with the old secret, and no other.
//   - one user name, from one address: counts only credentials not seen before. That is guessing.
//   - the address: likewise, for guessing over many names.
//
// There is no count by user name over all addresses: anybody could lock an administrator out with it.
//
// A right login gets through all the same, by two ways. Credentials that have logged in from the address
// within the last week are let through in any case. Other credentials that were put off are let through
// when they come back (see patience), at a slow rate: a client with a right password repeats it, a guesser
// gains nothing by repeating. So guesses that take each turn of a name do not keep its user out.
//
// Nothing waits: a refusal costs a map lookup, holds no goroutine and tells the client when to come back.
// All of it is in memory: a file of keyed hashes of passwords would be one more secret on the disk, and
// after a restart the slow way is open to each right login.
type backoff struct {
	now func() time.Time

	mu      sync.Mutex // guards what follows; held for map operations only
	entries map[any]*failures
	lately  map[credentialKey]time.Time // of the last login
	put     map[credentialKey]putOff
}

// putOff is about credentials that were refused unseen.
type putOff struct {
	first, last time.Time
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
	slow  time.Time // no login is let through by the slow way before this
	last  time.Time
}

const (
	freePerCredentials = 5  // a person who does not believe it, a client that retries
	freePerName        = 5  // typing errors
	freePerSource      = 20 // typing errors of all who share an address

	firstDelay = time.Second
	maxDelay   = time.Minute      // short: it is also what an honest user waits
	forgetting = 15 * time.Minute // after the last failure

	remembering = 7 * 24 * time.Hour // after the last login; a node reboots more often than that
	renewing    = time.Hour          // how old the time of the last login may be before it is noted again

	// Credentials that were put off are let through when they come back between patience and impatience
	// later, one of a user name and address in slowPerName, one of an address in slowPerSource.
	patience      = 5 * time.Second
	impatience    = 5 * time.Minute
	slowPerName   = 10 * time.Second
	slowPerSource = time.Second

	// maxCounted bounds each of the maps: some 6 MB, when somebody with many addresses is at it.
	maxCounted = 16384
)

func newBackoff(now func() time.Time) *backoff {
	return &backoff{now: now, entries: make(map[any]*failures), lately: make(map[credentialKey]time.Time), put: make(map[credentialKey]putOff)}
}

// An attempt is a login that was let through, until it is known how it ended. What it may cost is
// charged beforehand, so that a thousand guesses at once are not a thousand free ones.
type attempt struct {
	keys    []any // charged
	own     credentialKey
	named   nameKey
	counted bool // false: there is nobody to count against
	suspect bool // others from this address are counted
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
	if last, ok := b.lately[a.own]; ok && now.Sub(last) < remembering {
		a.fresh = now.Sub(last) < renewing
		return a, 0
	}
	if f := b.entry(a.own, now); f != nil { // seen before: no news to anybody who guesses
		a.suspect = true
		if wait := f.until.Sub(now); wait > 0 {
			return attempt{}, wait
		}
		return a, 0
	}
	charged := []any{a.named, sourceKey{source}}
	var wait time.Duration
	for _, key := range charged {
		if f := b.entry(key, now); f != nil {
			wait = max(wait, f.until.Sub(now))
			a.suspect = a.suspect || f.count > 0
		}
	}
	if wait > 0 {
		if slow := b.slowly(a, now); slow > 0 {
			return attempt{}, min(wait, slow)
		}
	}
	delete(b.put, a.own)
	b.charge(a.own, name, now, 0)
	b.charge(charged[0], name, now, freePerName)
	b.charge(charged[1], "", now, freePerSource)
	a.keys = charged
	return a, 0
}

// slowly says how long credentials that are put off have to wait until the slow way is open to them, and takes their
// turn if it is.
func (b *backoff) slowly(a attempt, now time.Time) time.Duration {
	p, ok := b.put[a.own]
	if !ok || now.Sub(p.last) >= impatience {
		makeRoom(b.put, func(p putOff) bool { return p.last == p.first && now.Sub(p.first) >= 2*patience })
		p.first = now
	}
	p.last = now
	b.put[a.own] = p
	wait := p.first.Add(patience).Sub(now)
	keys := []any{a.named, sourceKey{a.named.source}}
	for _, key := range keys {
		if f := b.entry(key, now); f != nil {
			wait = max(wait, f.slow.Sub(now))
		}
	}
	if wait <= 0 {
		b.noted(keys[0], a.named.name, now).slow = now.Add(slowPerName)
		b.noted(keys[1], "", now).slow = now.Add(slowPerSource)
	}
	return wait
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
		makeRoom(b.lately, func(last time.Time) bool { return b.now().Sub(last) >= remembering })
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
	f := b.noted(key, name, now)
	f.last = now
	if free == 0 {
		return
	}
	f.count++
	if f.count >= free {
		f.until = now.Add(delay(f.count - free))
	}
}

// noted finds what is counted under a key, or begins to count.
func (b *backoff) noted(key any, name string, now time.Time) *failures {
	if f := b.entry(key, now); f != nil {
		return f
	}
	makeRoom(b.entries, func(f *failures) bool { return now.Sub(f.last) >= forgetting })
	f := &failures{name: name, last: now}
	b.entries[key] = f
	return f
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
