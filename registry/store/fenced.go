package store

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/fence"
)

// fenced keeps the blobs from a daemon that reaches only an old primary of PostgreSQL, see package fence.
type fenced struct {
	fence   atomic.Pointer[fence.Fence] // nil: the database is a file, or the storage is not open yet
	looking func()                      // ends the looks
}

// server is a database that has servers.
type server interface {
	// Server returns the server at which it is written.
	Server() database.Server
	// Supersede ends the connections to servers whose place another one has taken, and has none made to such a server.
	Supersede(*database.SupersededError)
}

// lookEvery is how often a daemon looks whether the database went on at another server, of which it may learn by the storage alone.
const lookEvery = 10 * time.Second

// openFence has the storage know the server of the database. Nothing that was written before is acknowledged.
func (s *core) openFence(ctx context.Context) error {
	db, ok := s.db.(server)
	if !ok {
		return nil
	}
	s.fenced.fence.Store(fence.New(s.blobs, s.database, s.now))
	if err := s.uses(ctx, db.Server()); err != nil {
		return err
	}
	s.fenced.looking = s.repeat(lookEvery, "could not look which server has the database of the storage", s.lookAtServer)
	return nil
}

// uses is called by the engine before it writes at a server.
func (s *core) uses(ctx context.Context, at database.Server) error {
	f := s.fenced.fence.Load()
	if f == nil {
		return nil // openFence does it
	}
	return s.superseded(f.Use(ctx, at))
}

// mayRemove returns an error unless blobs may be removed. It costs a request.
func (s *core) mayRemove(ctx context.Context) error {
	f := s.fenced.fence.Load()
	if f == nil {
		return nil
	}
	return s.superseded(f.Look(ctx))
}

// lookAtServer is mayRemove for its own sake. The engine tells of connections to an old primary that it ends.
func (s *core) lookAtServer(ctx context.Context) error {
	err := s.mayRemove(ctx)
	if errors.As(err, new(*database.SupersededError)) {
		return nil
	}
	return err
}

// mayGoOn is mayRemove for the next blob of some.
func (s *core) mayGoOn(ctx context.Context) error {
	f := s.fenced.fence.Load()
	if f == nil {
		return nil
	}
	return s.superseded(f.Recent(ctx))
}

// superseded has the engine leave a server whose place another one has taken.
func (s *core) superseded(err error) error {
	var by *database.SupersededError
	if !errors.As(err, &by) {
		return err
	}
	if db, ok := s.db.(server); ok {
		db.Supersede(by)
	}
	return &database.UnavailableError{Database: s.database, Next: by.Hint(), Err: by}
}

// repeat calls do until the function that it returns is called. An error that lasts is logged once.
func (s *core) repeat(every time.Duration, failed string, do func(context.Context) error) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for last := ""; retry.Sleep(ctx, every) == nil; {
			now := ""
			if err := do(ctx); err != nil && ctx.Err() == nil {
				if now = err.Error(); now != last {
					s.log.Warn(failed, "error", err, "hint", hint.Of(err))
				}
			}
			last = now
		}
	}()
	return func() { cancel(); <-ended }
}
