package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/internal/s3url"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/blobs3"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// openBucket opens a storage in S3, before the database, if o names one.
func (s *core) openBucket(ctx context.Context, o Options) error {
	if !s3url.Is(o.Storage) {
		return nil
	}
	address, err := s3url.Parse(o.Storage)
	if err != nil {
		return &InvalidError{What: "address of the storage", Reason: err.Error()}
	}
	var bucket *blobs3.Storage
	o.waits(Wait{Storage: true, Name: address.String()})
	err = retry.Await(ctx, o.Starting, func(ctx context.Context) error {
		bucket, err = blobs3.Open(ctx, blobs3.Options{Address: address, Credentials: o.Credentials, Log: s.log})
		return err
	}, func(err error) bool {
		if !errors.Is(err, blobstore.ErrUnavailable) {
			return false
		}
		s.log.WarnContext(ctx, "waiting for the storage", "storage", address.String(), "error", err, "hint", hint.Of(err))
		o.waits(Wait{Storage: true, Name: address.String(), Err: err})
		return true
	})
	if err != nil {
		return err
	}
	o.waits(Wait{})
	s.blobs = bucket
	if !s.isNew() {
		return nil
	}
	blobs, err := bucket.HasBlobs(ctx)
	if err != nil {
		return fmt.Errorf("look for blobs: %w", err)
	}
	if blobs {
		return hint.New(fmt.Errorf("there is no database %s, and %s has blobs: without their rows the first collection would remove them", s.database, bucket.Root()),
			"mount the file system that has the database, or restore a backup of it; to begin anew, name another prefix in `storage:`")
	}
	return nil
}

// isNew reports whether there is no database yet. Opening it reports other errors.
func (s *core) isNew() bool {
	if s.file == "" { // openServer looks itself
		return false
	}
	info, err := os.Stat(s.file)
	return err == nil && info.Size() == 0 || errors.Is(err, fs.ErrNotExist)
}

// openBlobs opens the storage, unless openBucket did, and checks that it is that of the database.
func (s *core) openBlobs(ctx context.Context, o Options) (err error) {
	if s.blobs != nil {
		if err := s.checkBucket(ctx); err != nil {
			return err
		}
		if err := s.claimStorage(ctx); err != nil {
			return err
		}
		return s.openFence(ctx)
	}
	if err := s.checkStorage(ctx, o.Storage); err != nil {
		return err
	}
	if s.files, err = blobfile.Open(o.Storage); err != nil {
		return diskspace.Full(o.Storage, 0, err)
	}
	s.blobs = s.files.Storage()
	if id, _, err := blobstore.Owner(ctx, s.blobs); err != nil || id != "" { // since a copy of the database
		if err = errors.Join(err, s.claimStorage(ctx)); err != nil {
			return err
		}
	}
	return s.openFence(ctx)
}

// claimStorage refuses a storage that another store has.
func (s *core) claimStorage(ctx context.Context) error {
	var id string
	err := s.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING`, blobstore.OwnerNote, rand.Text())
		if err == nil {
			err = tx.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = ?`, blobstore.OwnerNote).Scan(&id)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("note the owner of the storage: %w", err)
	}
	return blobstore.Claim(ctx, s.blobs, id, s.database)
}

// checkBucket returns an error when rows have blobs and the storage has none: another bucket must
// not look like a registry that lost everything.
func (s *core) checkBucket(ctx context.Context) error {
	for _, a := range blobstore.Algorithms() {
		found, err := s.hasRows(ctx, a)
		if err != nil || !found {
			return err
		}
		place, mounted, err := s.blobs.CheckMounted(ctx, a)
		if err == nil && !mounted {
			err = hint.New(errors.New("the blobs of the database are missing: there are none in "+place),
				"name the bucket and the prefix that have them in `storage:` of config.yaml")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkDisk calls check with the directory of the blobs, if they are on a disk of this host.
func (s *core) checkDisk(check func(dir string) error) error {
	if s.files == nil {
		return nil
	}
	return check(s.files.Root())
}
