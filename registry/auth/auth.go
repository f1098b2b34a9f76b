// Package auth says who a request comes from and what that user may do.
//
// Users log in with HTTP Basic, the one scheme that every container client speaks and that
// needs no second service. Bearer tokens are issued beside it, since docker and what is made of its
// library pull without a login by token only; see challenges for which client is offered which. A token
// is short-lived and signed, and nothing is kept of it.
//
// Passwords are kept as bcrypt hashes. To check one takes tens of milliseconds, which would
// hold a registry to some thirty requests a second, so a success is remembered until Forget:
// under an HMAC with a key that only this process has, so that neither the password nor
// anything that could be tried against a dictionary stays in memory.
//
// A user may be granted only some repositories, see image.CheckPattern. Repositories may be open to pulls
// without a login, see Authenticator.Anonymous. Whoever guesses is slowed down, see backoff.
package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// ErrDenied says that name and password do not belong together. It does not say which is wrong.
var ErrDenied = errors.New("wrong user name or password")

// maxRemembered bounds the credential cache. A user normally has one entry.
const maxRemembered = 4096

// decoy is what an unknown user's password is compared with, to take as long: the hash, but for
// its cost, of random text that nobody kept. A match would not help anybody, see verify.
const decoy = "$2a$%02d$FEKwG0Il7PCGlPmfPfvwIuQ9rcotYPGOyDR9q892wFW7/ofCDNGSC"

// maxCost bounds what one hash in the store can make everybody's wrong passwords cost: a second.
const maxCost = 14

// A Record is what is kept of a user.
type Record struct {
	Role         string
	PasswordHash []byte
	Repositories []string // patterns, see image.CheckPattern; none: all repositories
}

// Users finds users by name. The boolean is false, with a nil error, if there is no such user.
type Users interface {
	Lookup(ctx context.Context, name string) (Record, bool, error)
}

// An Identity is a user whose password has been checked.
type Identity struct {
	Name         string // empty: nobody, who may pull what is open to all
	Role         Role
	Repositories []string // patterns, see image.CheckPattern; none: all repositories

	open   []string // patterns of what everybody may pull
	scopes []Scope  // of the token that the request came with; nil: it came with a password, or without a login
}

// Anonymous reports whether this is nobody: a request without a login that was let through.
func (i Identity) Anonymous() bool { return i.Name == "" }

// An Authenticator checks passwords. It is safe for concurrent use. Set its fields before the
// first request.
type Authenticator struct {
	// Log is told what goes wrong. nil discards.
	Log *slog.Logger
	// Audit is told of every failed login and of every request that a user is not allowed: the user
	// name and the remote address, never the password. nil: Log.
	Audit *slog.Logger
	// Anonymous are patterns of the repositories that may be pulled without a login; none: no
	// repository. Who gives a name and a password must give right ones in any case.
	Anonymous []string

	users    Users
	key      []byte // of this process: see digestOf
	tokenKey []byte // signs tokens, see SignWith
	stampKey []byte
	now      func() time.Time
	hashing  chan struct{} // one place a processor, so that guessing cannot starve pulls of all others
	doubtful chan struct{} // places in that queue for logins from where others have failed, see suspect

	backoff *backoff

	mu      sync.Mutex // guards what follows; held for map operations only
	cost    int        // the highest in use among the hashes of users, see Calibrate
	known   map[digest]Identity
	flights map[digest]*flight
	records map[string]Record // of users with tokens
	epoch   int               // how often Forget was called
}

type digest [sha256.Size]byte

// A flight is one verification that others with the same credentials wait for.
type flight struct {
	name   string
	done   chan struct{} // closed when result and err are set
	stale  bool          // guarded by Authenticator.mu: the user changed meanwhile, do not remember
	result Identity
	err    error
}

// New returns an Authenticator of these users.
func New(users Users) *Authenticator {
	key := make([]byte, sha256.Size)
	rand.Read(key) // never fails: crypto/rand ends the process instead
	a := &Authenticator{
		now:      time.Now,
		records:  make(map[string]Record),
		Log:      slog.New(slog.DiscardHandler),
		users:    users,
		key:      key,
		hashing:  make(chan struct{}, runtime.GOMAXPROCS(0)),
		doubtful: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		known:    make(map[digest]Identity),
		flights:  make(map[digest]*flight),
		backoff:  newBackoff(time.Now),
		cost:     bcrypt.DefaultCost,
	}
	a.SignWith(key)
	return a
}

// Calibrate says which password hashes are in use. A denial takes as long as the dearest of them,
// whether or not the user exists and whatever the user's own hash costs: Quay's cost 12, four times
// ours. Without it that is learned as users log in.
func (a *Authenticator) Calibrate(hashes ...[]byte) {
	for _, h := range hashes {
		if cost, err := bcrypt.Cost(h); err == nil {
			a.raise(cost)
		}
	}
}

// raise returns the highest cost in use, this one included.
func (a *Authenticator) raise(cost int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cost = max(a.cost, min(cost, maxCost))
	return a.cost
}

// Authenticate returns who name is if password is theirs, and ErrDenied if not. Any other error
// means that it could not be found out. An unknown name takes as long as a wrong password.
func (a *Authenticator) Authenticate(ctx context.Context, name, password string) (Identity, error) {
	return a.authenticate(ctx, a.digestOf(name, password), name, password)
}

func (a *Authenticator) authenticate(ctx context.Context, d digest, name, password string) (Identity, error) {
	for {
		a.mu.Lock()
		if id, ok := a.known[d]; ok {
			a.mu.Unlock()
			return id, nil
		}
		f, ok := a.flights[d]
		if !ok {
			f = &flight{name: name, done: make(chan struct{})}
			a.flights[d] = f
			a.mu.Unlock()
			a.fly(ctx, f, d, password)
			return f.result, f.err
		}
		a.mu.Unlock()

		select {
		case <-f.done:
		case <-ctx.Done():
			return Identity{}, ctx.Err()
		}
		// The one that flew may have been called off. That says nothing of our own credentials.
		if !errors.Is(f.err, context.Canceled) && !errors.Is(f.err, context.DeadlineExceeded) {
			return f.result, f.err
		}
	}
}

// Forget drops what is remembered of a user, failed logins included. Call it after every change of
// password, role or grants and after a removal: the next request is checked against the store.
func (a *Authenticator) Forget(name string) {
	a.backoff.forget(name)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.epoch++
	delete(a.records, name)
	for d, id := range a.known {
		if id.Name == name {
			delete(a.known, d)
		}
	}
	for d, f := range a.flights {
		if f.name == name {
			f.stale = true
			delete(a.flights, d) // whoever asks from now on looks the user up again
		}
	}
}

// fly verifies, remembers a success, and tells those who wait.
func (a *Authenticator) fly(ctx context.Context, f *flight, d digest, password string) {
	f.result, f.err = a.verify(ctx, f.name, password)
	a.mu.Lock()
	defer a.mu.Unlock()
	if f.err == nil && !f.stale {
		a.remember(d, f.result)
	}
	if a.flights[d] == f {
		delete(a.flights, d)
	}
	close(f.done)
}

// remember adds to the cache; the caller holds mu. Only successes get here, so a stranger cannot
// push anybody out. Which entry has to go when it is full does not matter: it costs one bcrypt.
func (a *Authenticator) remember(d digest, id Identity) {
	if len(a.known) >= maxRemembered {
		for other := range a.known {
			delete(a.known, other)
			break
		}
	}
	a.known[d] = id
}

type suspectKey struct{}

// suspect reports whether a login comes from where others have failed lately. Of these few are in the queue for hashing
// at once, so that guesses from many addresses do not delay a first login from another.
func suspect(ctx context.Context) bool { return ctx.Value(suspectKey{}) != nil }

// verify asks the store and compares hashes, for as long whether or not the user exists.
func (a *Authenticator) verify(ctx context.Context, name, password string) (Identity, error) {
	record, ok, err := a.lookup(ctx, name)
	if err != nil {
		return Identity{}, fmt.Errorf("look up user %q: %w", name, err)
	}
	if suspect(ctx) {
		select {
		case a.doubtful <- struct{}{}:
			defer func() { <-a.doubtful }()
		case <-ctx.Done():
			return Identity{}, ctx.Err()
		}
	}
	select {
	case a.hashing <- struct{}{}:
		defer func() { <-a.hashing }()
	case <-ctx.Done():
		return Identity{}, ctx.Err()
	}
	if !ok || len(password) > maxPasswordBytes {
		a.waste(0, password)
		return Identity{}, ErrDenied
	}
	switch err := bcrypt.CompareHashAndPassword(record.PasswordHash, []byte(password)); {
	case errors.Is(err, bcrypt.ErrMismatchedHashAndPassword):
		a.waste(costOf(record.PasswordHash), password)
		return Identity{}, ErrDenied
	case err != nil:
		return Identity{}, fmt.Errorf("password hash of user %q: %w", name, err)
	}
	a.raise(costOf(record.PasswordHash))
	return a.identity(name, record)
}

func (a *Authenticator) identity(name string, record Record) (Identity, error) {
	role, err := ParseRole(record.Role)
	if err != nil {
		return Identity{}, fmt.Errorf("user %q: %w", name, err)
	}
	return Identity{Name: name, Role: role, Repositories: record.Repositories, open: a.Anonymous}, nil
}

// waste takes the time that is left of a comparison at the highest cost in use, after one at cost
// spent, 0 for none.
func (a *Authenticator) waste(spent int, password string) {
	for _, cost := range left(spent, a.raise(spent)) {
		// Neither a match nor an error, of which there is none but mismatch, means anything.
		_ = bcrypt.CompareHashAndPassword(fmt.Appendf(nil, decoy, cost), []byte(password[:min(len(password), maxPasswordBytes)]))
	}
}

// left is the costs at which to compare: each is double the one before, so that after one at c those
// at c, c+1 … top-1 add up to one at top.
func left(spent, top int) []int {
	if spent == 0 {
		return []int{top}
	}
	var costs []int
	for c := spent; c < top; c++ {
		costs = append(costs, c)
	}
	return costs
}

func costOf(hash []byte) int {
	cost, err := bcrypt.Cost(hash)
	if err != nil {
		return 0
	}
	return cost
}

// lookup spares the store names that cannot exist.
func (a *Authenticator) lookup(ctx context.Context, name string) (Record, bool, error) {
	if CheckName(name) != nil {
		return Record{}, false, nil
	}
	return a.users.Lookup(ctx, name)
}

// digestOf names a pair of credentials in the cache. A user name cannot hold a zero byte that the
// store would accept, so no two pairs that matter are the same text.
func (a *Authenticator) digestOf(name, password string) (d digest) {
	mac := hmac.New(sha256.New, a.key)
	mac.Write([]byte(name))
	mac.Write([]byte{0})
	mac.Write([]byte(password))
	mac.Sum(d[:0])
	return d
}
