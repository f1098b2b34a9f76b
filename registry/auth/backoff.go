package auth

import (
	"net/netip"
	"sync"
	"time"
)

// A backoff answers failed logins with 429 and Retry-After once there are too many, see failures.
// Right credentials succeed nevertheless: those that have logged in from the address within a week
// are always admitted, others by the slowWay. So guesses at a name do not keep its user out.
//
// A refusal costs a map lookup, holds no goroutine and tells the client when to return. The state
// is in memory: a file of keyed password hashes would be one more secret on the disk, and after a
// restart the slowWay admits every right login.
type backoff struct {
	now func() time.Time

	mu       sync.Mutex // guards what follows; held for map operations only
	failures failures
	slow     slowWay
	logins   map[credentialKey]time.Time // the last successful one
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

const (
	trustFor   = 7 * 24 * time.Hour // after the last login; a node reboots more often than that
	renewAfter = time.Hour          // the age of the last login at which it is recorded again

	// maxCounted bounds each map, at some 6 MB, against an attacker with many addresses.
	maxCounted = 16384
)

func newBackoff(now func() time.Time) *backoff {
	return &backoff{now: now, failures: failures{}, slow: newSlowWay(), logins: make(map[credentialKey]time.Time)}
}

// An attempt is an admitted login until its result is known. It is charged as a failure beforehand,
// so that a thousand guesses at once are counted.
type attempt struct {
	own     credentialKey
	named   nameKey
	counted bool // false: the login has no address
	charged bool // to its name and its address
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
	if f := b.failures.of(a.own, now); f != nil { // seen before: a guesser learns nothing new
		a.suspect = true
		if wait := f.until.Sub(now); wait > 0 {
			return attempt{}, wait
		}
		return a, 0
	}
	var wait time.Duration
	for _, key := range []any{a.named, sourceKey{source}} {
		if f := b.failures.of(key, now); f != nil {
			wait = max(wait, f.until.Sub(now))
			a.suspect = a.suspect || f.count > 0
		}
	}
	if wait > 0 {
		if slow := b.slow.wait(a, now); slow > 0 {
			return attempt{}, min(wait, slow)
		}
	}
	delete(b.slow.refused, a.own)
	b.failures.charge(a.own, name, now, 0)
	b.failures.charge(a.named, name, now, freePerName)
	b.failures.charge(sourceKey{source}, "", now, freePerSource)
	a.charged = true
	return a, 0
}

// failed records that the credentials were wrong.
func (b *backoff) failed(a attempt) {
	if !a.counted {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.logins, a.own)
	b.failures.charge(a.own, a.named.name, b.now(), freePerCredentials)
}

// succeeded clears the counts of this user at this address. The count of the address stays:
// otherwise one valid account would buy guesses at all others.
func (b *backoff) succeeded(a attempt) {
	if !a.counted || a.fresh {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures.refund(a)
	delete(b.failures, a.own)
	delete(b.failures, a.named)
	if _, ok := b.logins[a.own]; !ok {
		makeRoom(b.logins, func(last time.Time) bool { return b.now().Sub(last) >= trustFor })
	}
	b.logins[a.own] = b.now()
}

// undecided refunds an attempt that was not checked: the store failed, or the client went away.
func (b *backoff) undecided(a attempt) {
	if !a.charged {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures.refund(a)
	delete(b.failures, a.own) // otherwise the next attempt would not be charged
}

// forget drops the counts of a name whose password may have changed.
func (b *backoff) forget(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, f := range b.failures {
		if f.name == name {
			delete(b.failures, key)
		}
	}
	for key := range b.slow.next {
		if k, ok := key.(nameKey); ok && k.name == name {
			delete(b.slow.next, key)
		}
	}
}

// makeRoom bounds a map. Forgotten entries go first, then any, and enough that thousands can follow
// before the next sweep.
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

// SourceOf returns the key under which an address counts: an IPv4 address, or the /64 of an IPv6
// address, which is one customer's. The address is the peer's: headers of a proxy can be forged.
// The zero Prefix is not an address.
func SourceOf(remote string) netip.Prefix {
	peer, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	addr, bits := peer.Addr().Unmap().WithZone(""), 64
	if addr.Is4() {
		bits = 32
	}
	return netip.PrefixFrom(addr, bits).Masked()
}
