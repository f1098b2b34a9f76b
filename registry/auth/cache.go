package auth

import (
	"context"
	"crypto/sha256"
	"strings"
	"sync"
)

// A cache holds what Forget drops: successful logins, checks under way, and the
// records of users with tokens.
type cache struct {
	mu      sync.Mutex // guards what follows; held for map operations only
	logins  map[digest]verdict
	checks  map[digest]*check
	records map[string]Record
	epoch   int // counts calls of forget
}

// A check is one verification that others with the same credentials wait for.
type check struct {
	name     string
	stale    bool          // guarded by cache.mu: the user changed meanwhile
	finished chan struct{} // closed when result and err are set
	result   verdict
	err      error
}

// A verdict is the user that a check has found, also of one that denies.
type verdict struct {
	id       Identity
	password [sha256.Size]byte // of the hash of the password; zero: there was no such user
}

func passwordOf(record Record) [sha256.Size]byte { return sha256.Sum256(record.PasswordHash) }

func newCache() *cache {
	return &cache{logins: make(map[digest]verdict), checks: make(map[digest]*check), records: make(map[string]Record)}
}

// get returns the login under a digest, or its check under way. The caller with first does the
// check and calls done.
func (c *cache) get(d digest, name string) (known verdict, under *check, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.logins[d]; ok {
		return known, nil, false
	}
	if under, ok := c.checks[d]; ok {
		return verdict{}, under, false
	}
	under = &check{name: name, finished: make(chan struct{})}
	c.checks[d] = under
	return verdict{}, under, true
}

// drop drops a login whose user another process has changed.
func (c *cache) drop(d digest, known verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.logins[d].password == known.password {
		delete(c.logins, d)
	}
}

// done caches a success and wakes those that wait.
func (c *cache) done(d digest, under *check) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if under.err == nil && !under.stale {
		c.add(d, under.result)
	}
	if c.checks[d] == under {
		delete(c.checks, d)
	}
	close(under.finished)
}

// add expects mu to be held. Only right logins are added, so guesses cannot evict any. An evicted
// one costs a bcrypt.
func (c *cache) add(d digest, known verdict) {
	if len(c.logins) >= maxCached {
		for other := range c.logins {
			delete(c.logins, other)
			break
		}
	}
	c.logins[d] = known
}

func (c *cache) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	delete(c.records, name)
	for d, known := range c.logins {
		if known.id.Name == name {
			delete(c.logins, d)
		}
	}
	for d, under := range c.checks {
		if under.name == name {
			under.stale = true
			delete(c.checks, d) // later requests look the user up again
		}
	}
}

// record is a lookup that is cached until Forget, unless users are shared.
func (a *Authenticator) record(ctx context.Context, name string) (Record, bool, error) {
	if a.Shared {
		return a.lookup(ctx, name)
	}
	c := a.cache
	c.mu.Lock()
	record, ok := c.records[name]
	epoch := c.epoch
	c.mu.Unlock()
	if ok {
		return record, true, nil
	}
	record, ok, err := a.lookup(ctx, name)
	if err != nil || !ok {
		return Record{}, false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch == epoch { // no user changed meanwhile
		if len(c.records) >= maxCached {
			clear(c.records)
		}
		c.records[strings.Clone(name)] = record
	}
	return record, true, nil
}
