package store

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/postgres"
)

// Alone is what this daemon does alone among those of its store.
type Alone struct {
	held  *postgres.Alone // nil: there is one daemon
	note  string
	token string
}

// errNotAlone is the error of a write of what another daemon does now.
var errNotAlone = errors.New("another daemon of this store does this now")

// Alone has this daemon be the only one that does what has a name, until Release, or until it loses the
// connection that the name is bound to: then another may begin. *database.HeldError. A store with one
// daemon has no other, and costs nothing.
func (s *core) Alone(ctx context.Context, name string) (*Alone, error) {
	if !s.several {
		return &Alone{}, nil
	}
	held, err := s.db.(guarded).DB.Alone(ctx, name)
	if err != nil {
		return nil, err
	}
	a := &Alone{held: held, note: "alone." + name, token: rand.Text()}
	if err := s.SetNote(ctx, a.note, a.token); err != nil {
		held.Release()
		return nil, err
	}
	return a, nil
}

// ClaimHostname records the hostname of the registry. If other daemons of this store run with another one,
// it returns that and where one of them is.
func (s *core) ClaimHostname(ctx context.Context, hostname string) (other, at string, err error) {
	if !s.several {
		return "", "", nil
	}
	return s.shared.Hostname.Claim(ctx, s.db.(guarded).DB.Member(), hostname)
}

// Clock returns how far the clock of the database is ahead of this host's, where other daemons use it.
func (s *core) Clock(ctx context.Context) (ahead time.Duration, err error) {
	if !s.several {
		return 0, nil
	}
	return s.db.(guarded).DB.Clock(ctx)
}

// Within returns a context that ends with ctx, and when this daemon is not alone any more. Its writes are
// refused from the moment on that another daemon has begun, which this one may learn of later.
func (a *Alone) Within(ctx context.Context) (context.Context, context.CancelFunc) {
	if a.held == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(Guard(ctx, a.note, func(token string) error {
		if token != a.token {
			return errNotAlone
		}
		return nil
	}))
	stop := context.AfterFunc(a.held.Lost, func() { cancel(errNotAlone) })
	return ctx, func() { stop(); cancel(nil) }
}

// Release leaves it to others.
func (a *Alone) Release() {
	if a.held != nil {
		a.held.Release()
	}
}

// IsHeld reports whether an error is that another daemon does it, and at which host.
func IsHeld(err error) (host string, held bool) {
	var e *database.HeldError
	if !errors.As(err, &e) {
		return "", false
	}
	return e.Holder, true
}
