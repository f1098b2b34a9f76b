package transfer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/pgurl"
	"github.com/mirror-appliance/appliance/internal/s3url"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/blobs3"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/migrations"
	"github.com/mirror-appliance/appliance/registry/store/postgres"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// source is the store that is read.
type source struct {
	Side
	db      *sql.DB
	blobs   blobstore.Storage
	release func() error // nil until take
}

// openSource opens a store for reading. Another process may have it.
func openSource(ctx context.Context, o Side) (_ *source, err error) {
	s := &source{Side: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := o.checkWritable(); err != nil {
		return nil, err
	}
	if pgurl.Is(o.Database) {
		s.db, err = postgres.OpenBeside(ctx, o.Database, migrations.Schema().Version())
	} else {
		s.db, err = sqlite.OpenBeside(ctx, o.Database, migrations.Schema())
	}
	if err != nil {
		return nil, err
	}
	if err := Check(ctx, s.db, s.name()); err != nil {
		return nil, err
	}
	if !s3url.Is(o.Storage) {
		if _, err := os.Stat(o.Storage); err != nil {
			return nil, hint.New(fmt.Errorf("the directory of the blobs: %w", err), "mount the file system that has it, or correct `storage:` in "+o.Config)
		}
	}
	s.blobs, err = openStorage(ctx, o)
	return s, err
}

// checkWritable refuses directories on a file system that is mounted read-only: the database is locked while it is
// read, by files beside it.
func (s Side) checkWritable() error {
	var dirs []string
	if !pgurl.Is(s.Database) {
		dirs = append(dirs, filepath.Dir(s.Database))
	}
	if !s3url.Is(s.Storage) {
		dirs = append(dirs, s.Storage)
	}
	for _, dir := range dirs {
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err == nil && fs.Flags&unix.ST_RDONLY != 0 { // other errors are for what opens it
			return hint.New(fmt.Errorf("%s is on a file system that is mounted read-only", dir),
				"mount it to be written (mount -o remount,rw): a copy leaves the content of the source as it is, and locks its database by files beside that; where it is a snapshot, or a disk that fails, copy both directories to another disk, and name them in "+s.Config)
		}
	}
	return nil
}

func openStorage(ctx context.Context, o Side) (blobstore.Storage, error) {
	if !s3url.Is(o.Storage) {
		dir, err := blobfile.Open(o.Storage)
		if err != nil {
			return nil, diskspace.Full(o.Storage, 0, err)
		}
		return dir.Storage(), nil
	}
	address, err := s3url.Parse(o.Storage)
	if err != nil {
		return nil, hint.New(fmt.Errorf("the address of the storage: %w", err), "correct `storage:` in "+o.Config)
	}
	bucket, err := blobs3.Open(ctx, blobs3.Options{Address: address, Credentials: o.Credentials})
	if err != nil {
		return nil, err
	}
	return bucket, nil
}

// take excludes other processes from the source until close. *database.LockedError.
func (s *source) take(ctx context.Context) error {
	if s.release != nil {
		return nil
	}
	if pgurl.Is(s.Database) {
		release, err := postgres.Take(ctx, s.Database)
		s.release = release
		return err
	}
	lock, err := sqlite.Lock(s.Database)
	if err == nil {
		s.release = lock.Close
	}
	return err
}

func (s *source) close() (err error) {
	if s.blobs != nil {
		err = s.blobs.Close()
	}
	if s.db != nil {
		err = errors.Join(err, s.db.Close())
	}
	if s.release != nil {
		err = errors.Join(err, s.release())
	}
	return err
}

func (s Side) name() string {
	if !pgurl.Is(s.Database) {
		return s.Database
	}
	name, err := postgres.Name(s.Database)
	if err != nil {
		return "of PostgreSQL" // the error of what opens it says why
	}
	return name
}

// size sets what the source has.
func (s *source) size(ctx context.Context, r *Report) error {
	err := s.db.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(size), 0) FROM blobs`).Scan(&r.Blobs, &r.BlobBytes)
	if err != nil {
		return fmt.Errorf("count the blobs of the source: %w", err)
	}
	return nil
}

// checkOther refuses two names of one database.
func checkOther(from, to Side) error {
	same := from.name() == to.name()
	if !pgurl.Is(from.Database) && !pgurl.Is(to.Database) {
		var err error
		if same, err = samePath(from.Database, to.Database); err != nil {
			return err
		}
	}
	if same {
		return &contentError{fmt.Sprintf("%s and %s name the same database, %s", from.Config, to.Config, from.name()),
			"let `database:` of the target name another one, also to move the blobs alone"}
	}
	return nil
}

// checkApart refuses a storage that lies in the other: each is walked as a whole, and what is found there without a row
// is removed.
func checkApart(from, to Side) error {
	a, b, err := from.Storage, to.Storage, error(nil)
	switch {
	case s3url.Is(a) != s3url.Is(b):
		return nil
	case s3url.Is(a):
		x, err1 := s3url.Parse(a)
		y, err2 := s3url.Parse(b)
		if err := errors.Join(err1, err2); err != nil || x.Bucket != y.Bucket || *x.Endpoint != *y.Endpoint {
			return nil // opening it gives the reason
		}
		a, b = "/"+x.Prefix, "/"+y.Prefix
	default:
		a, err = resolved(a)
		if err == nil {
			b, err = resolved(b)
		}
	}
	if err != nil {
		return err
	}
	within := func(inner, outer string) bool {
		return inner != outer && strings.HasPrefix(inner, strings.TrimSuffix(outer, "/")+"/")
	}
	if within(a, b) || within(b, a) {
		return &contentError{fmt.Sprintf("the storages %s and %s lie in each other", from.Storage, to.Storage),
			"let `storage:` in " + to.Config + " name a place beside that of the source"}
	}
	return nil
}

// resolved returns a path without links, also of what does not exist yet.
func resolved(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
		return real, err
	}
	parent, err := resolved(filepath.Dir(path))
	return filepath.Join(parent, filepath.Base(path)), err
}

// sameStorage reports whether two names are of one storage.
func sameStorage(a, b string) (bool, error) {
	if s3url.Is(a) != s3url.Is(b) {
		return false, nil
	}
	if !s3url.Is(a) {
		return samePath(a, b)
	}
	x, err1 := s3url.Parse(a)
	y, err2 := s3url.Parse(b)
	return x.Bucket == y.Bucket && x.Prefix == y.Prefix && x.Endpoint != nil && y.Endpoint != nil && *x.Endpoint == *y.Endpoint, errors.Join(err1, err2)
}

// samePath reports whether two paths are of one file, or would be.
func samePath(a, b string) (bool, error) {
	x, err := os.Stat(a)
	y, err2 := os.Stat(b)
	if err == nil && err2 == nil {
		return os.SameFile(x, y), nil
	}
	for _, err := range []error{err, err2} {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return filepath.Clean(a) == filepath.Clean(b), nil
}
