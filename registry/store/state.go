package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/integrity"
	"github.com/mirror-appliance/appliance/registry/store/migrations"
	"github.com/mirror-appliance/appliance/registry/store/sharedrows"
)

// Several reports whether other processes have the store open too. What this process remembers of rows
// then counts only for what does not change.
func (s *core) Several() bool { return s.several }

// Shared returns what several daemons share beside the content, nil if the database is a file.
func (s *core) Shared() *sharedrows.Set { return s.shared }

// Secret returns the secret with a name: 32 random bytes, made by the first call.
func (s *Store) Secret(ctx context.Context, name string) ([]byte, error) {
	if name == "" {
		return nil, &InvalidError{What: "secret", Reason: "it has no name"}
	}
	const selectSecret = `SELECT value FROM secrets WHERE name = ?`
	var secret []byte
	err := s.db.Reader().QueryRowContext(ctx, selectSecret, name).Scan(&secret)
	if !errors.Is(err, sql.ErrNoRows) {
		return secret, orNotFound(err, "secret", name)
	}
	fresh := make([]byte, 32)
	if _, err := rand.Read(fresh); err != nil {
		return nil, fmt.Errorf("make secret %s: %w", name, err)
	}
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO secrets (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING`, name, fresh)
		if err != nil {
			return fmt.Errorf("make secret %s: %w", name, err)
		}
		// Another request may have made it first.
		return orNotFound(tx.QueryRowContext(ctx, selectSecret, name).Scan(&secret), "secret", name)
	})
	return secret, err
}

// Stats counts the content of a store.
type Stats struct {
	Repositories int64 // that have a manifest
	Manifests    int64
	Tags         int64
	Blobs        int64
	BlobBytes    int64
	Quarantined  int64 // blobs that are damaged and out of service
	Users        int64
}

// Stats counts the content, which takes some 0.3 s for a million manifests.
func (s *Store) Stats(ctx context.Context) (Stats, error) {
	var n Stats
	err := s.db.Reader().QueryRowContext(ctx, `SELECT
		(SELECT count(*) FROM repositories r WHERE EXISTS (SELECT 1 FROM repository_manifests m WHERE m.repository = r.id)),
		(SELECT count(*) FROM manifests),
		(SELECT count(*) FROM tags),
		b.n, b.bytes,
		(SELECT count(*) FROM quarantine),
		(SELECT count(*) FROM users)
		FROM (SELECT count(*) AS n, coalesce(sum(size), 0) AS bytes FROM blobs) b`).
		Scan(&n.Repositories, &n.Manifests, &n.Tags, &n.Blobs, &n.BlobBytes, &n.Quarantined, &n.Users)
	if err != nil {
		return Stats{}, fmt.Errorf("count content: %w", err)
	}
	return n, nil
}

// Note returns the last value of SetNote, "" at first.
func (s *core) Note(ctx context.Context, name string) (string, error) {
	var value string
	err := s.db.Reader().QueryRowContext(ctx, `SELECT value FROM meta WHERE name = ?`, name).Scan(&value)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read note %s: %w", name, err)
	}
	return value, nil
}

// Restored returns when the store was restored from a backup, the zero time if it never was.
func (s *core) Restored(ctx context.Context) (time.Time, error) {
	text, err := s.Note(ctx, integrity.Restored)
	if err != nil || text == "" {
		return time.Time{}, err
	}
	return time.Parse(time.RFC3339Nano, text)
}

// Notes returns the notes whose names begin with a prefix, without it.
func (s *core) Notes(ctx context.Context, prefix string) (map[string]string, error) {
	all := map[string]string{}
	scan := func(rows *sql.Rows) error {
		var name, value string
		err := rows.Scan(&name, &value)
		all[name] = value
		return err
	}
	last := len(prefix) - 1
	after := prefix[:last] + string(prefix[last]+1)
	err := database.Query(ctx, s.db.Reader(), scan, `SELECT substr(name, length(?1) + 1), value FROM meta WHERE name > ?1 AND name < ?2`, prefix, after)
	if err != nil {
		return nil, fmt.Errorf("read notes %s: %w", prefix, err)
	}
	return all, nil
}

// SetNote saves a value that a job needs after a restart, on a full disk too; "" removes the note.
func (s *core) SetNote(ctx context.Context, name, value string) error {
	return s.db.ShareFreeing(ctx, func(ctx context.Context, tx *sql.Tx) error { return setNote(ctx, tx, name, value) })
}

func setNote(ctx context.Context, tx *sql.Tx, name, value string) (err error) {
	if value == "" {
		_, err = tx.ExecContext(ctx, `DELETE FROM meta WHERE name = ?`, name)
	} else {
		_, err = tx.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
	}
	if err != nil {
		return fmt.Errorf("write note %s: %w", name, err)
	}
	return nil
}

// Space returns the free space of the blobs' file system, and of the database's if that is another.
func (s *Store) Space() ([]diskspace.Space, error) {
	var paths []string
	err := s.checkDisk(func(dir string) error {
		paths = append(paths, dir)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if s.file != "" {
		same := false
		if len(paths) > 0 {
			if same, err = diskspace.Same(paths[0], s.file); err != nil {
				return nil, err
			}
		}
		if !same {
			paths = append(paths, s.file)
		}
	}
	all := make([]diskspace.Space, len(paths))
	for i, path := range paths {
		if all[i], err = s.space.Space(path); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// CheckSpace returns a *FullError when the disk is too full for any push.
func (s *Store) CheckSpace() error { return s.checkNewFile(0) }

// checkSpace returns a *FullError unless there is space for need bytes of a blob and for its row.
func (s *core) checkSpace(need int64) error {
	s.arrivals.crowd(need, func(quota int64) bool { return s.lacking(quota, need) > 0 })
	if err := s.checkDisk(func(dir string) error { return s.space.Check(dir, need) }); err != nil {
		return err
	}
	return s.databaseSpace(0)
}

// checkSpool returns a *FullError unless this host has space for need bytes of an upload that is read meanwhile, where the
// storage cannot have them.
func (s *core) checkSpool(need int64) error {
	dir := s.blobs.Spool()
	if dir == "" {
		return nil
	}
	space := s.space
	space.MinFree = 0 // which is of the blobs' file system
	return space.Check(dir, need)
}

// checkNewFile is checkSpace for a blob that needs new files.
func (s *core) checkNewFile(need int64) error {
	if err := s.checkDisk(s.space.CheckInodes); err != nil {
		return err
	}
	return s.checkSpace(need)
}

// DatabaseBytes returns the sizes of the database and of its WAL.
func (s *Store) DatabaseBytes() (database, wal int64) { return s.db.Bytes() }

// Damage returns a *CorruptError if the database was found damaged since Open, and nil otherwise.
func (s *Store) Damage() error { return s.db.Damage() }

// CheckDatabase returns an error unless the database answers.
func (s *Store) CheckDatabase(ctx context.Context) error { return s.db.Check(ctx) }

// CheckStorage returns an error unless the storage of the blobs can be written.
func (s *Store) CheckStorage(ctx context.Context) error {
	return diskspace.Full(s.blobs.Root(), 0, s.blobs.CheckWritable(ctx))
}

// Maintain flushes times of access, finishes interrupted work, forgets changes that followers have, and maintains
// the database. It is
// called on a schedule, while the store is in use.
func (s *Store) Maintain(ctx context.Context) error {
	var errs []error
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"flush the times of last access", s.flushLastAccess},
		{"finish interrupted work", s.finishAll},
		{"forget what followers have", s.prune},
		{"forget what daemons shared", s.forget},
		{"maintain the database", s.db.Maintain},
	} {
		if err := step.do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", step.what, err))
		}
	}
	return errors.Join(errs...)
}

// checkStorage returns an error when rows have blobs and there is no directory for them:
// a disk that is not mounted must not look like a registry that lost everything.
func (s *core) checkStorage(ctx context.Context, root string) error {
	for _, a := range blobstore.Algorithms() {
		dir, missing := blobfile.Missing(root, a)
		if !missing {
			continue
		}
		found, err := s.hasRows(ctx, a)
		if err != nil {
			return err
		}
		if found {
			return hint.New(errors.New("the blobs of the database are missing: "+dir+" does not exist"),
				"mount the file system that has them, or restore a backup: appliance restore")
		}
	}
	return nil
}

// hasRows reports whether there are rows of blobs of an algorithm.
func (s *core) hasRows(ctx context.Context, a digest.Algorithm) (bool, error) {
	found, err := database.Exists(ctx, s.db.Reader(),
		`SELECT 1 FROM blobs WHERE digest >= ?1 || ':' AND digest < ?1 || ';'`, a.String())
	if err != nil {
		return false, fmt.Errorf("look for blobs: %w", err)
	}
	return found, nil
}

// checkDatabase returns an error when there are blobs and no database. With a new one,
// collection would remove them all.
func (s *core) checkDatabase(storage string) error {
	if s.blobs != nil || !s.isNew() {
		return nil
	}
	blobs, err := blobfile.HasBlobs(storage)
	if err != nil {
		return fmt.Errorf("look for blobs: %w", err)
	}
	if blobs {
		return hint.New(fmt.Errorf("there is no database %s, and %s has blobs: without their rows the first collection would remove them", s.database, storage),
			"mount the file system that has the database, or restore a backup (`appliance restore`), which uses the blobs that are there; to begin anew, move "+storage+" away")
	}
	return nil
}

// Snapshot is the source of a backup: a copy of the database at one moment, whose blobs keep their
// files until Release. It takes as much space as the database.
type Snapshot struct {
	Name  string // of the file, which is beside the database
	store *core
}

// Snapshot makes a snapshot. Collections go on until Release, but leave files. *FullError.
func (s *Store) Snapshot(ctx context.Context) (*Snapshot, error) {
	// Before the snapshot: what it names must still have its file when its turn comes.
	s.guard.Backups.Add(1)
	path, err := s.db.Snapshot(ctx)
	if err != nil {
		s.guard.Backups.Add(-1)
		return nil, err
	}
	return &Snapshot{Name: filepath.Base(path), store: s.core}, nil
}

// Release removes the file, and lets collections remove files again.
func (s *Snapshot) Release() error {
	defer s.store.guard.Backups.Add(-1)
	return s.store.db.RemoveSnapshot(s.Name)
}

// Hold is as in database.Rows: pushes, deletes and jobs wait.
func (s *Store) Hold(ctx context.Context) (release func()) { return s.db.Hold(ctx) }

// SchemaVersion returns the version of the databases that this program writes.
func SchemaVersion() int { return migrations.Schema().Version() }
