package store

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/guard"
	"github.com/mirror-appliance/appliance/registry/store/integrity"
	"github.com/mirror-appliance/appliance/registry/store/leases"
)

// guards know the blobs, uploads and runs in use. Those of one daemon are in memory, package guard, and
// those of several are rows, package leases.
type guards struct {
	Blobs    blobGuard
	Sessions sessionGuard
	Runs     runGuard
	Backups  *atomic.Int32
	shared   *leases.Set // nil for one daemon
	tidying  func()      // ends the calls of shared.Tidy
}

// blobGuard keeps collection and requests apart. What is done in a transaction goes with it, in rows, or
// is undone by Unmark and UnmarkLinks, in memory.
type blobGuard interface {
	integrity.Guard
	// Check records that a client is told that a blob exists, and, unless expect is "", that a manifest
	// is expected in that repository. read reads the row of the blob, in a transaction unless that is
	// nil, and its error is returned. *NotFoundError while collection removes the blob.
	Check(ctx context.Context, l guard.Link, expect string, read func(context.Context, *sql.Tx) error) error
	// Expecting records that put puts a blob into a repository for a manifest, and Expect does so in its
	// transaction.
	Expecting(repo string, d digest.Digest, put func() error) error
	Expect(ctx context.Context, tx *sql.Tx, repo string, d digest.Digest) error
	// Unexpect records that blobs which were put or checked until a time have their manifest, or that the
	// client gave it up. Unexpected is called when its transaction is committed.
	Unexpect(ctx context.Context, tx *sql.Tx, repo string, until time.Time, ds ...digest.Digest) error
	Unexpected(repo string, until time.Time, ds ...digest.Digest)
	// Spared returns those of some blobs that are in use.
	Spared(ctx context.Context, before time.Time, ds ...digest.Digest) (map[digest.Digest]bool, error)
	// Put waits until collection has finished with a blob, and keeps it off until the put ends.
	Put(ctx context.Context, d digest.Digest) (put, error)
	// UndoPlace calls remove for a file that was placed and could not be synced, unless others put it.
	UndoPlace(d digest.Digest, remove func() error) error
	// Mark marks a blob, and MarkLink a link, unless they are in use.
	Mark(ctx context.Context, tx *sql.Tx, d digest.Digest, before time.Time) (bool, error)
	MarkLink(ctx context.Context, tx *sql.Tx, l guard.Link, before time.Time) (bool, error)
	UnmarkLinks(ls []guard.Link)
	// Save writes what is remembered, before Close.
	Save(ctx context.Context) error
}

// sessionGuard gives each upload to one request at a time.
type sessionGuard interface {
	// Take waits up to patience for the request that has an upload. *BusyError.
	Take(ctx context.Context, id string, patience time.Duration) error
	TryTake(ctx context.Context, id string) (bool, error)
	// Own takes an upload whose id no other request knows.
	Own(id string)
	InUse(ctx context.Context, id string) bool
	// Holds reports whether no other request can have taken an upload since.
	Holds(id string) bool
	Release(id string)
}

// memorySessions is the sessionGuard of one daemon.
type memorySessions struct{ *guard.Sessions }

func (m memorySessions) TryTake(_ context.Context, id string) (bool, error) {
	return m.Sessions.TryTake(id), nil
}

func (m memorySessions) Own(id string)                           { m.Sessions.TryTake(id) }
func (m memorySessions) InUse(_ context.Context, id string) bool { return m.Sessions.InUse(id) }
func (m memorySessions) Holds(string) bool                       { return true }

// sharedSessions is the sessionGuard of several daemons.
type sharedSessions struct{ *leases.Sessions }

// Own leaves it to the first byte: until then an upload has nothing that another daemon finds.
func (s sharedSessions) Own(string) {}

// put is a put of a blob under way.
type put interface {
	// Verify returns leases.ErrRemoved when the blob has to be placed again.
	Verify(ctx context.Context, tx *sql.Tx) error
	End()
}

// inMemory returns the guards of one daemon.
func (s *core) inMemory() guards {
	set := guard.New(s.now)
	return guards{Blobs: &memoryBlobs{set.Blobs, s}, Sessions: memorySessions{&set.Sessions}, Runs: &memoryRuns{&set.Runs, s}, Backups: &set.Backups}
}

// memoryBlobs is the blobGuard of one daemon.
type memoryBlobs struct {
	blobs *guard.Blobs
	store *core
}

func (m *memoryBlobs) Check(ctx context.Context, l guard.Link, expect string, read func(context.Context, *sql.Tx) error) error {
	for {
		epoch := m.blobs.Epoch()
		if err := read(ctx, nil); err != nil {
			return err
		}
		gone, again, err := m.blobs.Check(ctx, l, expect, epoch)
		if err == nil && gone {
			err = &NotFoundError{Kind: "blob", Name: l.Digest.String()}
		}
		if err != nil || !again {
			return err
		}
	}
}

// Expecting records it before put, unless put fails: a transaction of it that runs several times is one
// put, for one manifest.
func (m *memoryBlobs) Expecting(repo string, d digest.Digest, put func() error) error {
	m.blobs.Expect(repo, d)
	err := put()
	if err != nil {
		m.blobs.Unexpect(repo, m.store.now(), d)
	}
	return err
}

func (m *memoryBlobs) Expect(context.Context, *sql.Tx, string, digest.Digest) error { return nil }

func (m *memoryBlobs) Unexpect(context.Context, *sql.Tx, string, time.Time, ...digest.Digest) error {
	return nil
}

func (m *memoryBlobs) Unexpected(repo string, until time.Time, ds ...digest.Digest) {
	m.blobs.Unexpect(repo, until, ds...)
}

func (m *memoryBlobs) Spared(_ context.Context, before time.Time, ds ...digest.Digest) (map[digest.Digest]bool, error) {
	var spared map[digest.Digest]bool
	for _, d := range ds {
		if m.blobs.Spared(d, before) {
			if spared == nil {
				spared = map[digest.Digest]bool{}
			}
			spared[d] = true
		}
	}
	return spared, nil
}

// memoryPut is a put of one daemon.
type memoryPut struct {
	blobs  *guard.Blobs
	digest digest.Digest
}

func (m *memoryBlobs) Put(ctx context.Context, d digest.Digest) (put, error) {
	if err := m.blobs.Enter(ctx, d); err != nil {
		return nil, err
	}
	return memoryPut{m.blobs, d}, nil
}

func (p memoryPut) Verify(context.Context, *sql.Tx) error { return nil }
func (p memoryPut) End()                                  { p.blobs.Leave(p.digest) }

func (m *memoryBlobs) UndoPlace(d digest.Digest, remove func() error) error {
	if !m.blobs.MarkNow(d, 1) {
		return nil
	}
	defer m.blobs.Unmark(d)
	return remove()
}

func (m *memoryBlobs) Mark(_ context.Context, _ *sql.Tx, d digest.Digest, before time.Time) (bool, error) {
	return m.blobs.Mark(d, before), nil
}

func (m *memoryBlobs) MarkLink(_ context.Context, _ *sql.Tx, l guard.Link, before time.Time) (bool, error) {
	return m.blobs.MarkLink(l, before), nil
}

func (m *memoryBlobs) UnmarkLinks(ls []guard.Link) { m.blobs.UnmarkLinks(ls) }

// Epoch, with the methods below, implements integrity.Guard.
func (m *memoryBlobs) Epoch(context.Context) (uint64, error) { return m.blobs.Epoch(), nil }

func (m *memoryBlobs) InFlight(d digest.Digest) bool { return m.blobs.InFlight(d) }

func (m *memoryBlobs) MarkNow(_ context.Context, _ *sql.Tx, d digest.Digest) (bool, error) {
	return m.blobs.MarkNow(d, 0), nil
}

func (m *memoryBlobs) Remove(ctx context.Context, _ digest.Digest, remove func(context.Context) error) error {
	return remove(ctx)
}

func (m *memoryBlobs) Unmark(_ context.Context, ds ...digest.Digest) { m.blobs.Unmark(ds...) }

// Save saves the times of checks as those of links, so that a restart between a check and the manifest
// does not cost a push its blobs.
func (m *memoryBlobs) Save(ctx context.Context) error {
	checks := m.blobs.TakeChecks()
	if len(checks) == 0 {
		return nil
	}
	return m.store.db.Write(ctx, func(tx *sql.Tx) error {
		for d, t := range checks {
			_, err := tx.ExecContext(ctx, `UPDATE repository_blobs SET linked = max(linked, ?) WHERE digest = ?`, database.Nanos(t), d)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// sharedBlobs is the blobGuard of several daemons.
type sharedBlobs struct{ *leases.Blobs }

func (b sharedBlobs) Expecting(_ string, _ digest.Digest, put func() error) error { return put() }

func (b sharedBlobs) Unexpected(string, time.Time, ...digest.Digest) {}

func (b sharedBlobs) Spared(ctx context.Context, before time.Time, ds ...digest.Digest) (map[digest.Digest]bool, error) {
	return b.Blobs.Spared(ctx, nil, before, ds...)
}

func (b sharedBlobs) Put(ctx context.Context, d digest.Digest) (put, error) { return b.Begin(ctx, d) }

// UndoPlace leaves it to collection.
func (b sharedBlobs) UndoPlace(digest.Digest, func() error) error { return nil }

func (b sharedBlobs) UnmarkLinks([]guard.Link) {}

func (b sharedBlobs) InFlight(digest.Digest) bool { return false } // a row has its object before

func (b sharedBlobs) Save(ctx context.Context) error { return b.Flush(ctx) }

// errNotShared is the error of a database that several daemons cannot have.
var errNotShared = errors.New("only a database of PostgreSQL is shared by several daemons")

// share has the guards be those of several daemons.
func (s *core) share() error {
	db, ok := s.db.(leases.Database)
	if !ok {
		return errNotShared
	}
	s.guard.shared = leases.New(leases.Options{Database: db, Now: s.now, Remove: s.removeObject, Each: maxUserSessions, All: maxSessions, Log: s.log})
	s.guard.Blobs = sharedBlobs{s.guard.shared.Blobs}
	s.guard.Runs = sharedRuns{s.guard.shared.Runs}
	s.guard.Sessions = sharedSessions{s.guard.shared.Sessions}
	s.guard.tidying = s.repeat(tidyEvery, "could not tidy what the daemons of this store share", s.guard.shared.Tidy)
	return nil
}

// tidyEvery is how often a daemon writes what others need to know, and finishes what dead ones left.
const tidyEvery = 10 * time.Second

// recall has a process that has the database of PostgreSQL alone spare what the daemons spared that shared it
// before: clients were told that it exists.
func (s *core) recall(ctx context.Context, before time.Time) error {
	alone, is := s.guard.Blobs.(*memoryBlobs)
	if !is || s.file != "" {
		return nil
	}
	checked, expected, err := leases.Left(ctx, s.db.Reader(), before, s.now())
	if err == nil {
		alone.blobs.Recall(checked, expected)
	}
	return err
}

// forget deletes what the daemons shared and do not need any more.
func (s *core) forget(ctx context.Context) error {
	if s.guard.shared == nil {
		return nil
	}
	return s.guard.shared.Blobs.Forget(ctx)
}

func (s *core) removeObject(ctx context.Context, d digest.Digest) error {
	if err := s.mayGoOn(ctx); err != nil {
		return err
	}
	_, err := s.blobs.Blob(d).Remove(ctx)
	return err
}
