package auth

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// A backoff answers failed logins with 429 and Retry-After once there are too many. It counts them under three keys. One
// count by address would punish others: a node with an old pull secret fails all day, and other nodes and the
// administrator may share its address behind a NAT.
//
//   - the credentials, from one address: sent again they fail again, so they are refused without another bcrypt. This
//     stops the node with the old secret and no other.
//   - a user name, from one address: counts only credentials not seen before. This stops guessing.
//   - the address: likewise, stops guessing over many names.
//
// Failures are not counted by user name over all addresses: anybody could lock an administrator out that way.
//
// Right credentials still succeed, in two ways. Credentials that have logged in from the address within the last week
// are always admitted. Other credentials that were refused are admitted when they return (see patience), at a slow
// rate: a client with a right password repeats it, and repeating a guess gains nothing. So guesses at a name do not
// keep its user out.
//
// Nothing waits here: a refusal costs a map lookup, holds no goroutine and tells the client when to return. The state is
// in memory: a file of keyed password hashes would be one more secret on the disk, and after a restart the slow way
// admits every right login.
type backoff struct {
	now func() time.Time

	mu      sync.Mutex // guards what follows; held for map operations only
	entries map[any]*failures
	logins  map[credentialKey]time.Time // the last successful one
	refused map[credentialKey]refusals
}

// refusals are those of credentials that were not checked.
type refusals struct {
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

// failures are the counted ones of a key.
type failures struct {
	name  string // of the user, if the key has one
	count int
	until time.Time // no login is admitted before this
	slow  time.Time // no login is admitted at the slow rate before this
	last  time.Time
}

const (
	freePerCredentials = 5  // a client that retries
	freePerName        = 5  // typing errors
	freePerSource      = 20 // typing errors of all users at an address

	firstDelay  = time.Second
	maxDelay    = time.Minute        // short: it is also what an honest user waits
	forgetAfter = 15 * time.Minute   // the last failure
	trustFor    = 7 * 24 * time.Hour // after the last login; a node reboots more often than that
	renewAfter  = time.Hour          // the age of the recorded last login at which it is recorded again

	// Refused credentials are admitted when they return between patience and impatience later: one login of a user
	// name and address in slowPerName, one of an address in slowPerSource.
	patience      = 5 * time.Second
	impatience    = 5 * time.Minute
	slowPerName   = 10 * time.Second
	slowPerSource = time.Second

	// maxCounted bounds each map, at some 6 MB, against an attacker with many addresses.
	maxCounted = 16384
)

func newBackoff(now func() time.Time) *backoff {
	return &backoff{now: now, entries: make(map[any]*failures), logins: make(map[credentialKey]time.Time), refused: make(map[credentialKey]refusals)}
}

// An attempt is an admitted login until its result is known. It is charged as a failure beforehand, so that a thousand
// guesses at once are counted.
type attempt struct {
	keys    []any // charged
	own     credentialKey
	named   nameKey
	counted bool // false: the login has no address
	suspect bool // others from this address have failed
	fresh   bool // the recorded last login is younger than renewAfter
}

// admit admits an attempt, or returns how long to wait.
func (b *backoff) admit(source netip.Prefix, name string, d digest) (attempt, time.Duration) {
	if !source.IsValid() {
		return attempt{}, 0 // a unix socket, which its file mode protects
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	a := attempt{own: credentialKey{source, d}, named: nameKey{source, name}, counted: true}
	if last, ok := b.logins[a.own]; ok && now.Sub(last) < trustFor {
		a.fresh = now.Sub(last) < renewAfter
		return a, 0
	}
	if f := b.entry(a.own, now); f != nil { // seen before: a guesser learns nothing new
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
	delete(b.refused, a.own)
	b.charge(a.own, name, now, 0)
	b.charge(charged[0], name, now, freePerName)
	b.charge(charged[1], "", now, freePerSource)
	a.keys = charged
	return a, 0
}

// slowly returns how long refused credentials must wait for admission at the slow rate, and uses up their turn if the
// wait is over.
func (b *backoff) slowly(a attempt, now time.Time) time.Duration {
	p, ok := b.refused[a.own]
	if !ok || now.Sub(p.last) >= impatience {
		makeRoom(b.refused, func(p refusals) bool { return p.last == p.first && now.Sub(p.first) >= 2*patience })
		p.first = now
	}
	p.last = now
	b.refused[a.own] = p
	wait := p.first.Add(patience).Sub(now)
	keys := []any{a.named, sourceKey{a.named.source}}
	for _, key := range keys {
		if f := b.entry(key, now); f != nil {
			wait = max(wait, f.slow.Sub(now))
		}
	}
	if wait <= 0 {
		b.counted(keys[0], a.named.name, now).slow = now.Add(slowPerName)
		b.counted(keys[1], "", now).slow = now.Add(slowPerSource)
	}
	return wait
}

// failed records that the credentials were wrong.
func (b *backoff) failed(a attempt) {
	if !a.counted {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.logins, a.own)
	b.charge(a.own, a.named.name, b.now(), freePerCredentials)
}

// succeeded clears the counts of this user at this address. The count of the address stays: otherwise one valid account
// would buy guesses at all others.
func (b *backoff) succeeded(a attempt) {
	if !a.counted || a.fresh {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refund(a)
	delete(b.entries, a.own)
	delete(b.entries, a.named)
	if _, ok := b.logins[a.own]; !ok {
		makeRoom(b.logins, func(last time.Time) bool { return b.now().Sub(last) >= trustFor })
	}
	b.logins[a.own] = b.now()
}

// undecided refunds an attempt that was not checked: the store failed, or the client went away.
func (b *backoff) undecided(a attempt) {
	if !a.counted {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refund(a)
	if len(a.keys) > 0 {
		delete(b.entries, a.own) // otherwise the next attempt would not be charged
	}
}

// forget drops the counts of a name whose password may have changed.
func (b *backoff) forget(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, f := range b.entries {
		if f.name == name {
			delete(b.entries, key)
		}
	}
}

// entry returns the failures of a key unless they are forgotten. It expects mu to be held, as do the functions below.
func (b *backoff) entry(key any, now time.Time) *failures {
	f, ok := b.entries[key]
	if ok && now.Sub(f.last) >= forgetAfter {
		delete(b.entries, key)
		return nil
	}
	return f
}

// charge counts one more failure. With free 0 it only records that the key has been seen.
func (b *backoff) charge(key any, name string, now time.Time, free int) {
	f := b.counted(key, name, now)
	f.last = now
	if free == 0 {
		return
	}
	f.count++
	if f.count >= free {
		f.until = now.Add(delay(f.count - free))
	}
}

// counted returns the entry of a key and creates it if there is none.
func (b *backoff) counted(key any, name string, now time.Time) *failures {
	if f := b.entry(key, now); f != nil {
		return f
	}
	makeRoom(b.entries, func(f *failures) bool { return now.Sub(f.last) >= forgetAfter })
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

// makeRoom bounds a map. Forgotten entries go first, then any, and enough that thousands can follow before the next
// sweep.
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

// SourceOf returns the key under which an address counts: an IPv4 address, or the /64 of an IPv6 address, which is one
// customer's. The address is the peer's: headers of a proxy can be forged. The zero Prefix is not an address.
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
