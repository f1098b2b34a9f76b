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

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/pgurl"
	"github.com/mirror-appliance/appliance/internal/s3url"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/integrity"
	"github.com/mirror-appliance/appliance/registry/store/migrations"
	"github.com/mirror-appliance/appliance/registry/store/postgres"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// target is the store that is written.
type target struct {
	Side
	db     database.Engine
	blobs  blobstore.Storage
	lock   *os.File // nil for PostgreSQL
	begun  bool     // an earlier Run has marked it
	server bool     // it is PostgreSQL
	space  diskspace.Checker
}

// openTarget opens the store that is written, and refuses one with content of its own.
func (c *copying) openTarget(ctx context.Context) (_ *target, err error) {
	t := &target{Side: c.To, server: pgurl.Is(c.To.Database), space: diskspace.Checker{Bytes: diskspace.Bytes, MinFree: c.To.MinFree}}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	if !t.server {
		if t.lock, err = sqlite.Lock(c.To.Database); err != nil {
			return nil, err
		}
	}
	if t.blobs, err = openStorage(ctx, c.To); err != nil {
		return nil, err
	}
	if err := t.openDatabase(ctx, c); err != nil {
		return nil, err
	}
	if err := t.admit(ctx, c, t.db.Reader()); err != nil {
		return nil, err
	}
	return t, t.checkOwner(ctx, c, t.db.Reader())
}

func (t *target) openDatabase(ctx context.Context, c *copying) error {
	fresh := func() error { return t.noBlobs(ctx, c) }
	if t.server {
		db, err := postgres.Open(ctx, postgres.Options{Address: t.Database, Migrations: migrations.Postgres(), Own: migrations.Own(), Watched: migrations.Watched(), Fresh: fresh, Log: c.Log})
		if err == nil {
			t.db = db
		}
		return err
	}
	info, err := os.Stat(t.Database)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		if err := fresh(); err != nil {
			return err
		}
	}
	db, err := sqlite.Open(ctx, sqlite.Options{Path: t.Database, Schema: migrations.Schema(), Log: c.Log})
	if err == nil {
		t.db = db
	}
	return err
}

// noBlobs refuses blobs that no row names, unless they are those of the source.
func (t *target) noBlobs(ctx context.Context, c *copying) error {
	if c.report.SameStorage {
		return nil
	}
	has := func(context.Context) (bool, error) { return blobfile.HasBlobs(t.Storage) }
	if bucket, ok := t.blobs.(interface {
		HasBlobs(context.Context) (bool, error)
	}); ok {
		has = bucket.HasBlobs
	}
	found, err := has(ctx)
	if err != nil {
		return fmt.Errorf("look for blobs: %w", err)
	}
	if found {
		return &contentError{t.Storage + " has blobs, and the database of the target does not name them", "let `storage:` in " + t.Config + " name an empty place"}
	}
	return nil
}

// admit refuses a target that has content of its own.
func (t *target) admit(ctx context.Context, c *copying, db database.Querier) error {
	m, marked, err := readMark(ctx, db)
	if err != nil {
		return err
	}
	if !marked {
		used, err := integrity.Used(ctx, db)
		if err != nil {
			return fmt.Errorf("look into the target: %w", err)
		}
		if used {
			return t.own("has content of its own")
		}
		// A store without content may have accounts, which would be replaced as well.
		names, err := database.Column[string](ctx, db, `SELECT name FROM users ORDER BY name LIMIT 4`)
		if err != nil {
			return fmt.Errorf("look into the target: %w", err)
		}
		if len(names) > 0 {
			return t.own("has accounts of its own, such as " + strings.Join(names, ", "))
		}
		return t.noBlobs(ctx, c)
	}
	t.begun = true
	if m.From != c.from.name() {
		return t.own("is a copy of " + m.From)
	}
	if !m.Whole {
		return nil
	}
	state, err := t.state(ctx, db)
	if err == nil && state != m.Digest {
		return t.own("has changed since it was copied on " + m.At.Format("2006-01-02 15:04:05 MST"))
	}
	return err
}

func (t *target) own(what string) error {
	return &contentError{fmt.Sprintf("the target %s %s, which a copy would destroy", t.name(), what),
		"to copy anew, let " + t.Config + " name an empty database and an empty storage"}
}

// mark notes that the target lacks content until the rows are copied.
func (t *target) mark(ctx context.Context, m mark) error {
	m.To = t.Config
	return t.db.Write(ctx, func(tx *sql.Tx) error { return writeMark(ctx, tx, m) })
}

func (t *target) close() (err error) {
	if t.blobs != nil {
		err = t.blobs.Close()
	}
	if t.db != nil {
		err = errors.Join(err, t.db.Close())
	}
	if t.lock != nil {
		err = errors.Join(err, t.lock.Close())
	}
	return err
}

// checkSpace returns a *diskspace.FullError unless there is space for need bytes of blobs.
func (t *target) checkSpace(need int64) error {
	if s3url.Is(t.Storage) {
		return nil
	}
	return t.space.Check(t.blobs.Root(), need)
}

// checkRoom is checkSpace for a storage that is not open, and may not exist.
func (c *copying) checkRoom(need int64) error {
	if s3url.Is(c.To.Storage) {
		return nil
	}
	dir := c.To.Storage
	for parent := filepath.Dir(dir); parent != dir; dir, parent = parent, filepath.Dir(parent) {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return diskspace.Checker{Bytes: diskspace.Bytes, MinFree: c.To.MinFree}.Check(dir, need)
}

// peek refuses what openTarget refuses, changes nothing, and returns how many blobs are there, with their size.
func (c *copying) peek(ctx context.Context) (blobs, bytes int64, err error) {
	t := &target{Side: c.To}
	db, err := t.look(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("look into the target: %w", err)
	}
	if c.report.SameStorage {
		t.blobs = c.from.blobs
	} else if s3url.Is(t.Storage) {
		if t.blobs, err = openStorage(ctx, c.To); err != nil {
			return 0, 0, fmt.Errorf("look into the target: %w", err)
		}
	}
	if db == nil { // the copy makes it
		return 0, 0, errors.Join(t.noBlobs(ctx, c), t.checkOwner(ctx, c, nil))
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := errors.Join(t.admit(ctx, c, db), t.checkOwner(ctx, c, db)); err != nil {
		return 0, 0, err
	}
	err = db.QueryRowContext(ctx, `SELECT count(*), coalesce(sum(size), 0) FROM blobs`).Scan(&blobs, &bytes)
	return blobs, bytes, err
}

// look opens the database for reading, nil if there is none.
func (t *target) look(ctx context.Context) (*sql.DB, error) {
	if pgurl.Is(t.Database) {
		db, err := postgres.OpenBeside(ctx, t.Database, migrations.Schema().Version())
		if errors.As(err, new(*database.NotDatabaseError)) {
			return nil, nil
		}
		return db, err
	}
	info, err := os.Stat(t.Database)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil, nil
	}
	return sqlite.OpenBeside(ctx, t.Database, migrations.Schema())
}
