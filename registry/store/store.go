package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/pgurl"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/sharedrows"
)

// Options are the options of Open.
type Options struct {
	Database string // SQLite file, created 0600, whose directory must exist; or postgres://…
	Storage  string // directory of the blobs, see blobfile, or an address of S3, see s3url
	// Credentials is a file of AWS for a storage in S3; "": those of the environment.
	Credentials string
	Current     bool             // refuse a database of an older version instead of migrating it: *SchemaError
	Existing    bool             // refuse an empty database of PostgreSQL
	Shared      bool             // other daemons may have a database of PostgreSQL and a storage in S3 as well: those that have Shared too
	Starting    context.Context  // while it lasts, a server that does not answer yet is waited for; nil: it is not
	Waiting     func(Wait)       // called while Starting lasts: before the first attempt, after each that failed, and with a zero Wait when one succeeded; nil: it is not
	MinFree     int64            // bytes that pushes leave free on both file systems; 0: enough to delete
	Now         func() time.Time // nil: time.Now
	Log         *slog.Logger     // nil: discard

	rehearse bool // run each transaction of PostgreSQL twice, in tests
}

// Wait is a server that Open waits for.
type Wait struct {
	Storage bool   // it is the storage of the blobs, not the database
	Name    string // its address, without a password
	Err     error  // of the last attempt; nil: the first is under way
}

// waits tells what is waited for.
func (o Options) waits(w Wait) {
	if o.Waiting != nil && o.Starting != nil {
		o.Waiting(w)
	}
}

// Store is an opened store. It and its parts are safe for concurrent use.
type Store struct {
	*core
	Blobs     *Blobs     // blobs of a repository
	Uploads   *Uploads   // blobs being pushed
	Manifests *Manifests // manifests of a repository
	Tags      *Tags      // tags of a repository
	Runs      *Runs      // staged syncs
	Users     *Users     // accounts
	Clusters  *Clusters  // attached clusters, and what they need
	Garbage   *Garbage   // unused content
	Audit     *Audit     // what users did and were refused
	Feed      *Feed      // what followers are told
	Following *Following // what came from the appliance that is followed

	lock *os.File
}

// Blobs are the blobs of repositories.
type Blobs struct{ *core }

// Uploads begins and resumes uploads.
type Uploads struct{ *core }

// Manifests are the manifests of repositories.
type Manifests struct{ *core }

// Tags are the tags of repositories.
type Tags struct{ *core }

// Clusters are the attached clusters.
type Clusters struct{ *core }

// Runs begins and resumes runs.
type Runs struct{ *core }

// Users are the accounts.
type Users struct{ *core }

// Audit is what users did and were refused.
type Audit struct{ *core }

// Garbage finds and removes unused content. It implements gc.Store.
type Garbage struct{ *core }

// core is shared by the parts of a store.
type core struct {
	database string // for messages
	file     string // of the database; "": it is not a file
	db       database.Engine
	blobs    blobstore.Storage
	files    *blobfile.Dir // nil unless blobs are files: small ones have a journal then, and the disk may get full
	journal  *journal
	several  bool            // other processes have the store open too
	shared   *sharedrows.Set // nil: the database is a file
	space    diskspace.Checker
	now      func() time.Time
	log      *slog.Logger
	closed   atomic.Bool

	memory
	turns
	fenced
}

// memory is the state of one process.
type memory struct {
	guard    guards
	sessions *sessions
	cache    manifestCache
	accesses accesses
	arrivals *arrivals
	signal   changeSignal
	feed     feedSignal
	noted    chan struct{} // see Noted
}

// turns bounds how long requests and long work wait for each other.
type turns struct {
	places   manifestPlaces
	reading  reading       // see yielding
	removing sync.Map      // ids of the removals under way
	part     time.Duration // of a transaction that is part of a long operation
	patience time.Duration // of a request whose upload session another request has
}

// Open opens the store, or creates it. Errors: *LockedError when another process has
// it, *SchemaError, *NotDatabaseError, *FullError, and one with a hint when the blobs
// or the database are missing.
func Open(ctx context.Context, o Options) (_ *Store, err error) {
	s, err := newStore(o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := s.openBucket(ctx, o); err != nil {
		return nil, err
	}
	if err := s.openDatabase(ctx, o); err != nil {
		return nil, err
	}
	if err := s.openBlobs(ctx, o); err != nil {
		return nil, err
	}
	if o.Shared {
		err = s.share()
	} else { // there they have rows
		err = s.sessions.find(ctx, s.blobs)
	}
	if err != nil {
		return nil, err
	}
	if err := s.openJournal(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func newStore(o Options) (*Store, error) {
	if o.Database == "" || o.Storage == "" {
		return nil, &InvalidError{What: "store options", Reason: "both a database and a storage directory are needed"}
	}
	path := ""
	if !pgurl.Is(o.Database) {
		var err error
		if path, err = filepath.Abs(o.Database); err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
	}
	c := &core{database: path, file: path, several: o.Shared, now: o.Now, log: o.Log,
		turns: turns{places: newManifestPlaces(), part: partTime, patience: 10 * time.Second}}
	s := &Store{core: c, Blobs: &Blobs{c}, Uploads: &Uploads{c}, Manifests: &Manifests{c}, Tags: &Tags{c},
		Runs: &Runs{c}, Users: &Users{c}, Clusters: &Clusters{c}, Garbage: &Garbage{c}, Audit: &Audit{c}, Feed: &Feed{c}, Following: &Following{c}}
	s.space = diskspace.Checker{Bytes: diskspace.Bytes, Inodes: diskspace.Inodes, MinFree: o.MinFree}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.cache.limit = cacheLimit()
	s.guard = s.inMemory()
	s.sessions = newSessions()
	s.feed.kept, s.noted = changesKept, make(chan struct{}, 1)
	s.arrivals = &arrivals{over: make(chan struct{}, 1)}
	return s, nil
}

// Close closes the store. Calls under way fail.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return fmt.Errorf("close the store of %s: %w", s.database, os.ErrClosed)
	}
	if s.guard.tidying != nil {
		s.guard.tidying()
	}
	if s.fenced.looking != nil {
		s.fenced.looking()
	}
	if s.blobs != nil && s.db != nil {
		s.saveSessions()
	}
	s.journal.close()
	var errs []error
	if s.blobs != nil {
		errs = append(errs, s.blobs.Close())
	}
	if s.db != nil {
		// An error is logged only: a push whose check is lost is told what is
		// missing, and sends it again.
		if err := s.saveChecks(context.Background()); err != nil {
			s.log.Warn("could not save the recent checks of blobs", "error", err)
		}
		if err := s.flushLastAccess(context.Background()); err != nil {
			s.log.Warn("could not save the times of last access", "error", err)
		}
		if s.guard.shared != nil {
			errs = append(errs, s.guard.shared.Close(context.Background()))
		}
		errs = append(errs, s.db.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close()) // and with it the lock
	}
	return errors.Join(errs...)
}

// saveChecks saves the times that the guards remember.
func (s *core) saveChecks(ctx context.Context) error {
	err := s.guard.Blobs.Save(ctx)
	heard := s.guard.Runs.TakeHeard()
	if err != nil || len(heard) == 0 {
		return err
	}
	return s.db.Write(ctx, func(tx *sql.Tx) error {
		for id, t := range heard {
			if _, err := tx.ExecContext(ctx, `UPDATE runs SET last_seen = max(last_seen, ?) WHERE id = ? AND committed = 0`, database.Nanos(t), id); err != nil {
				return err
			}
		}
		return nil
	})
}
