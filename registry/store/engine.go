package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/pgurl"
	"github.com/mirror-appliance/appliance/internal/s3url"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/blobs3"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/migrations"
	"github.com/mirror-appliance/appliance/registry/store/postgres"
	"github.com/mirror-appliance/appliance/registry/store/sharedrows"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
	"github.com/mirror-appliance/appliance/registry/store/transfer"
)

// openDatabase opens the database by the engine that its name is of, and refuses half a copy.
func (s *Store) openDatabase(ctx context.Context, o Options) (err error) {
	if pgurl.Is(o.Database) {
		err = s.openServer(ctx, o)
	} else {
		err = s.openFile(ctx, o)
	}
	if err != nil {
		return err
	}
	return transfer.Check(ctx, s.db.Reader(), s.database)
}

// changed and committed are called by the engine, see its options.
func (s *core) changed(row database.Change) { s.cache.note(row); s.signal.note(row); s.feed.note(row) }
func (s *core) committed()                  { s.cache.forget(); s.signal.committed(); s.feed.committed() }

// openFile opens a database that is a file, under its lock.
func (s *Store) openFile(ctx context.Context, o Options) (err error) {
	if err := durable.CheckWritable(filepath.Dir(s.file)); err != nil {
		return err
	}
	if s.lock, err = sqlite.Lock(s.file); err != nil {
		return err
	}
	if err := s.checkDatabase(o.Storage); err != nil {
		return err
	}
	db, err := sqlite.Open(ctx, sqlite.Options{Path: s.file, Schema: migrations.Schema(),
		Current: o.Current, Log: s.log, Changed: s.changed, Committed: s.committed})
	if err != nil {
		return err
	}
	s.db = db
	s.space.Reusable = db.Reusable
	return nil
}

// openServer opens a database of PostgreSQL, which is locked by its connection.
func (s *Store) openServer(ctx context.Context, o Options) (err error) {
	fresh := func() error {
		if o.Existing {
			a, err := pgurl.Parse(o.Database)
			return errors.Join(err, hint.New(fmt.Errorf("the database %s is empty: the registry has never run, or its database is lost", a),
				"start the registry, or restore the database by PostgreSQL's tools (pg_restore)"))
		}
		has := func(context.Context) (bool, error) { return blobfile.HasBlobs(o.Storage) }
		if bucket, ok := s.blobs.(interface {
			HasBlobs(context.Context) (bool, error)
		}); ok {
			has = bucket.HasBlobs
		}
		blobs, err := has(ctx)
		if err != nil {
			return fmt.Errorf("look for blobs: %w", err)
		}
		if blobs {
			return hint.New(fmt.Errorf("the database is empty, and %s has blobs: without their rows the first collection would remove them", o.Storage),
				"let `database:` name the database that has their rows, or restore that by PostgreSQL's tools; to begin anew, move "+o.Storage+" away")
		}
		return nil
	}
	options := schemaOf(o.Database)
	options.Fresh, options.Current, options.Starting = fresh, o.Current, o.Starting
	options.Several, options.Rehearse, options.Log = o.Shared, o.rehearse, s.log
	options.Changed, options.Committed, options.Topic, options.Told = s.changed, s.committed, topicOf, s.told
	options.Use = s.uses
	options.Waiting = func(name string, err error) { o.waits(Wait{Name: name, Err: err}) }
	db, err := postgres.Open(ctx, options)
	if err != nil {
		return err
	}
	s.db, s.database = db, db.Name()
	if s.several {
		s.db = guarded{db}
	}
	s.shared = sharedrows.New(s.db)
	return nil
}

// LookAtBucket returns an error unless a storage in S3 can be used: it writes, reads and removes an object, once and without
// a wait for a storage that does not answer yet.
func LookAtBucket(ctx context.Context, address, credentials string) error {
	a, err := s3url.Parse(address)
	if err != nil {
		return err
	}
	bucket, err := blobs3.Open(blobstore.Once(ctx), blobs3.Options{Address: a, Credentials: credentials})
	if err != nil {
		return err
	}
	return bucket.Close()
}

// LookAtServer returns an error unless a database in PostgreSQL can be reached and has the tables of this version. It
// changes nothing, also while a daemon has the database.
func LookAtServer(ctx context.Context, address string) error {
	if err := postgres.CheckLogin(address); err != nil {
		return err
	}
	db, err := postgres.OpenBeside(ctx, address, migrations.Schema().Version())
	if err != nil {
		return err
	}
	return db.Close()
}

// ServerState looks at a database in PostgreSQL before another version of the program serves it. It changes nothing,
// also while daemons have the database.
func ServerState(ctx context.Context, address string) (postgres.State, error) {
	if err := postgres.CheckLogin(address); err != nil {
		return postgres.State{}, err
	}
	return postgres.Look(ctx, schemaOf(address))
}

// schemaOf returns the options by which a database in PostgreSQL gets its schema.
func schemaOf(address string) postgres.Options {
	return postgres.Options{Address: address, Migrations: migrations.Postgres(), Own: migrations.Own(), Watched: migrations.Watched()}
}

// CheckLogin returns an error if the file of passwords that the address of a database names lacks a line for it.
func CheckLogin(address string) error { return postgres.CheckLogin(address) }

// databaseSpace returns a *FullError unless the file system of the database has space for need
// bytes. The disks of a server are its own: it refuses what they have no space for.
func (s *core) databaseSpace(need int64) error {
	if s.file == "" {
		return nil
	}
	return s.space.Check(s.file, need)
}
