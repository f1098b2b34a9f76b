// Package auth authenticates requests and decides what their users may do.
//
// Users log in with HTTP Basic: every container client speaks it, and it needs no second service.
// Bearer tokens are issued beside it, because docker and the clients made of its library pull
// without a login by token only; challenges decides which client is offered which. A token is
// signed and lives for minutes; the server stores none.
//
// Passwords are stored as bcrypt hashes. One comparison takes tens of milliseconds, too long
// for each request, so a success is cached until Forget. The key of the cache is an HMAC
// under a key of this process: memory holds neither the password nor text that a dictionary
// could be tried against. Where several daemons have the users, one does not see what another
// changes, and looks the user up for each request, see Authenticator.Shared.
//
// Grants may limit a user to some repositories, see image.CheckPattern. Some repositories may be
// open to anonymous pulls, see Authenticator.Anonymous. Guessing is slowed down, see backoff.
package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// errDenied does not tell whether the name or the password is wrong.
var errDenied = errors.New("wrong user name or password")

// maxCached bounds the credential cache. A user normally has one entry.
const maxCached = 4096

// A Record is a user as stored.
type Record struct {
	Role         string
	PasswordHash []byte
	Repositories []string // patterns, see image.CheckPattern; none: all repositories
}

// Users finds users by name. The boolean is false, with a nil error, if the user does not exist.
type Users interface {
	Lookup(ctx context.Context, name string) (Record, bool, error)
}

// An Identity is an authenticated user, or the anonymous one.
type Identity struct {
	Name         string // empty: anonymous
	Role         Role
	Repositories []string // patterns, see image.CheckPattern; none: all repositories

	open   []string // patterns of the repositories open to anonymous pulls
	scopes []Scope  // of the request's token; nil: the request came without one
}

// Anonymous reports whether the request came without a login.
func (i Identity) Anonymous() bool { return i.Name == "" }

// An Authenticator checks passwords and tokens. It is safe for concurrent use. Set its fields
// before the first request.
type Authenticator struct {
	// Log receives errors. nil discards.
	Log *slog.Logger
	// Audit receives every failed login and every refused request: the user name and the remote
	// address, never the password. nil: Log.
	Audit *slog.Logger
	// Anonymous are patterns of the repositories that may be pulled without a login; none: no
	// repository. A request with a wrong name or password is refused in any case.
	Anonymous []string
	// Shared: other processes change users as well. A user is then looked up for each request, and a
	// cached login, which spares the comparison, counts while the hash of its password is the same.
	Shared bool

	users    Users
	key      []byte // of this process, see digestOf
	tokenKey []byte // signs tokens, see SignWith
	stampKey []byte
	now      func() time.Time
	hasher   *hasher
	backoff  *backoff
	cache    *cache
}

// New returns an Authenticator of these users.
func New(users Users) *Authenticator {
	key := make([]byte, sha256.Size)
	rand.Read(key) // never fails: crypto/rand ends the process instead
	a := &Authenticator{
		Log:     slog.New(slog.DiscardHandler),
		users:   users,
		key:     key,
		now:     time.Now,
		hasher:  newHasher(),
		backoff: newBackoff(time.Now),
		cache:   newCache(),
	}
	a.SignWith(key)
	return a
}

// Calibrate learns the costs of the password hashes in use: a denial takes as long as the highest,
// see hasher. Without it the costs are learned as users log in. Quay's is 12, four times ours.
func (a *Authenticator) Calibrate(hashes ...[]byte) {
	for _, h := range hashes {
		a.hasher.raise(costOf(h))
	}
}

// authenticate returns the user if the password is right, and errDenied if not. Any other error
// means that the password could not be checked. d is digestOf name and password.
func (a *Authenticator) authenticate(ctx context.Context, d digest, name, password string) (Identity, error) {
	for {
		known, c, first := a.cache.get(d, name)
		if first {
			c.result, c.err = a.verify(ctx, name, password)
			a.cache.done(d, c)
			return c.result.id, c.err
		}
		var denied error
		if c != nil {
			select {
			case <-c.finished:
			case <-ctx.Done():
				return Identity{}, ctx.Err()
			}
			// A request that was cancelled says nothing of the credentials.
			if errors.Is(c.err, context.Canceled) || errors.Is(c.err, context.DeadlineExceeded) {
				continue
			}
			if c.err != nil && !errors.Is(c.err, errDenied) {
				return Identity{}, c.err
			}
			known, denied = c.result, c.err
		}
		id, same, err := a.confirm(ctx, name, known)
		switch {
		case err != nil:
			return Identity{}, err
		case same && denied != nil:
			return Identity{}, denied
		case same:
			return id, nil
		}
		a.cache.drop(d, known)
	}
}

// confirm returns the user of an earlier check as it is now, and false if its password is another
// since.
func (a *Authenticator) confirm(ctx context.Context, name string, known verdict) (id Identity, same bool, err error) {
	if !a.Shared {
		return known.id, true, nil
	}
	record, ok, err := a.lookup(ctx, name)
	switch {
	case err != nil:
		return Identity{}, false, fmt.Errorf("look up user %q: %w", name, err)
	case !ok:
		return Identity{}, known.password == [sha256.Size]byte{}, nil
	case passwordOf(record) != known.password:
		return Identity{}, false, nil
	}
	id, err = a.identity(name, record)
	return id, err == nil, err
}

// Forget drops all that is cached of a user, failed logins included. Call it after every change of
// password, role or grants, and after a removal.
func (a *Authenticator) Forget(name string) {
	a.backoff.forget(name)
	a.cache.forget(name)
}

// verify checks the password against the store.
func (a *Authenticator) verify(ctx context.Context, name, password string) (found verdict, err error) {
	record, ok, err := a.lookup(ctx, name)
	if err != nil {
		return found, fmt.Errorf("look up user %q: %w", name, err)
	}
	if ok {
		found.password = passwordOf(record)
	}
	switch err := a.hasher.check(ctx, ok, record.PasswordHash, password); {
	case errors.Is(err, errDenied) || ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return found, err
	case err != nil:
		return found, fmt.Errorf("password hash of user %q: %w", name, err)
	}
	found.id, err = a.identity(name, record)
	return found, err
}

func (a *Authenticator) identity(name string, record Record) (Identity, error) {
	role, err := ParseRole(record.Role)
	if err != nil {
		return Identity{}, fmt.Errorf("user %q: %w", name, err)
	}
	return Identity{Name: name, Role: role, Repositories: record.Repositories, open: a.Anonymous}, nil
}

// lookup spares the store names that cannot exist.
func (a *Authenticator) lookup(ctx context.Context, name string) (Record, bool, error) {
	if CheckName(name) != nil {
		return Record{}, false, nil
	}
	return a.users.Lookup(ctx, name)
}

type digest [sha256.Size]byte

// digestOf returns the key of a pair of credentials. Valid names have no zero byte, so no
// two pairs share a key.
func (a *Authenticator) digestOf(name, password string) (d digest) {
	mac := hmac.New(sha256.New, a.key)
	mac.Write([]byte(name))
	mac.Write([]byte{0})
	mac.Write([]byte(password))
	mac.Sum(d[:0])
	return d
}
