package leases

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Database is the database that the daemons share. *postgres.DB implements it.
type Database interface {
	database.Rows
	// Marks returns connections on which each statement is a transaction of its own, which waits for no other write.
	Marks() *sql.DB
	// Member returns the id of this daemon's row.
	Member() string
	// Leave has what this daemon had free at once.
	Leave(ctx context.Context) error
	// Holds reports whether this daemon is surely the member of an id.
	Holds(id string) bool
}

// Set has what several daemons share.
type Set struct {
	Blobs    *Blobs
	Sessions *Sessions
	Runs     *Runs

	db     Database
	claims *claims
}

// Options are the options of New.
type Options struct {
	Database Database
	Now      func() time.Time
	Remove   func(context.Context, digest.Digest) error // removes the object of a blob, if it exists
	Each     int                                        // upload sessions of a user
	All      int                                        // and of all
	Log      *slog.Logger
}

// New returns a Set.
func New(o Options) *Set {
	c := newClaims(o.Database, o.Log)
	blobs := &Blobs{db: o.Database, now: o.Now, remove: o.Remove, log: o.Log, Recheck: recheck,
		told: map[told]telling{}, checks: map[digest.Digest]time.Time{}, removing: map[digest.Digest]*removal{}}
	return &Set{db: o.Database, claims: c, Blobs: blobs, Sessions: &Sessions{Each: o.Each, All: o.All, claims: c, now: o.Now},
		Runs: &Runs{claims: c, now: o.Now}}
}

// Tidy saves what this daemon has not written yet, finishes what dead ones began, and deletes rows that
// are of no use any more. It is called every few seconds.
func (s *Set) Tidy(ctx context.Context) error {
	return errors.Join(s.Blobs.Flush(ctx), s.Blobs.finish(ctx), s.claims.tidy(ctx), s.Runs.beat(ctx), s.Runs.sweep(ctx))
}

// Close saves what is not written, and leaves: what this daemon had is free at once, unless a removal
// of it may be under way.
func (s *Set) Close(ctx context.Context) error {
	err := s.Blobs.Flush(ctx)
	busy, failed := s.Blobs.busy(ctx)
	if err = errors.Join(err, failed); err != nil || busy {
		return err
	}
	return s.db.Leave(ctx)
}

// bound returns a context that ends when this daemon is not sure any more to be the member of an id. A
// request with it has ended long before others take over.
func (b *Blobs) bound(ctx context.Context, member string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	var over sync.Once
	ended := make(chan struct{})
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				if !b.db.Holds(member) {
					cancel(errLease)
					return
				}
			}
		}
	}()
	return ctx, func() { over.Do(func() { close(ended) }); cancel(nil) }
}

var errLease = errors.New("the lease of this daemon may have ended")

// asJSON returns digests as an array.
func asJSON(ds []digest.Digest) string {
	text, err := json.Marshal(ds)
	if err != nil {
		return "[]" // which strings never come to
	}
	return string(text)
}

// affected runs a statement within a transaction and reports whether it changed a row.
func affected(ctx context.Context, tx *sql.Tx, text string, args ...any) (bool, error) {
	n, err := database.Affected(ctx, tx, text, args...)
	return n > 0, err
}
