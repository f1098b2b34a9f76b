package adopt

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	_ "modernc.org/sqlite" // the driver

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Quay is the content of a mirror-registry 2.x or 3. Its database is read from a private copy: opening the
// original would write to it, also for reading, since it is in WAL mode.
type Quay struct {
	install QuayInstall
	storage *os.Root
	temp    string
	db      *sql.DB
	ids     map[string]int64 // of repositories
	now     time.Time
}

// The copy of the database, and its WAL.
const (
	databaseCopy = "quay.db"
	walSuffix    = "-wal"
)

// Open opens what a mirror-registry has, which need not be stopped.
func (q QuayInstall) Open(ctx context.Context) (_ *Quay, err error) {
	s := &Quay{install: q, ids: map[string]int64{}, now: time.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(q.unreadable(err), s.Close())
		}
	}()
	if s.storage, err = os.OpenRoot(q.Storage); err != nil {
		return nil, fmt.Errorf("open Quay's storage: %w", err)
	}
	if s.temp, err = os.MkdirTemp("", "appliance-adopt-"); err != nil {
		return nil, err
	}
	if err := copyDatabase(ctx, q.Database, s.temp); err != nil {
		return nil, fmt.Errorf("copy Quay's database: %w", err)
	}
	if s.db, err = sql.Open("sqlite", "file:"+filepath.Join(s.temp, databaseCopy)); err != nil {
		return nil, err
	}
	var revision string
	if err := s.db.QueryRowContext(ctx, `SELECT version_num FROM alembic_version`).Scan(&revision); err != nil {
		return nil, hint.New(fmt.Errorf("%s is not a database of Quay: %w", q.Database, err),
			"start the mirror-registry once more, so that it migrates its database, and try again")
	}
	if q.first {
		s.install.supers, err = s.firstUser(ctx)
	}
	return s, err
}

// unreadable tells what to do about files of a rootless podman's container: they belong to subordinate
// users, whose files their user may not read.
func (q QuayInstall) unreadable(err error) error {
	info, statErr := os.Stat(q.Root)
	if !errors.Is(err, fs.ErrPermission) || statErr != nil || int(info.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
		return err
	}
	return hint.New(err, "only root can read what belongs to subordinate users of its owner: install the appliance as root on another port, "+
		"sudo appliance install --quayHostname HOST:PORT, stop the mirror-registry, then: sudo appliance adopt "+q.Root)
}

// copyDatabase copies the database with its WAL, as they are at one time.
func copyDatabase(ctx context.Context, from, to string) error {
	dir, err := os.OpenRoot(filepath.Dir(from))
	if err != nil {
		return err
	}
	defer dir.Close()
	name := filepath.Base(from)
	const attempts = 10
	for range attempts {
		before := stateOf(dir, name)
		for _, suffix := range []string{"", walSuffix} {
			err := copyInto(dir, name+suffix, filepath.Join(to, databaseCopy+suffix))
			if err != nil && (suffix == "" || !errors.Is(err, fs.ErrNotExist)) {
				return err
			}
		}
		if stateOf(dir, name) == before {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return hint.New(errors.New("it changes while it is copied"), "stop what pushes to the mirror-registry, and try again")
}

// stateOf tells whether database or WAL were written to.
func stateOf(dir *os.Root, database string) (state string) {
	for _, suffix := range []string{"", walSuffix} {
		if info, err := dir.Lstat(database + suffix); err == nil {
			state += fmt.Sprint(info.Size(), info.ModTime().UnixNano(), " ")
		}
	}
	return state
}

func copyInto(dir *os.Root, name, to string) error {
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, _, err := openFile(dir, name)
	if err != nil {
		return err
	}
	defer f.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, f)
	return errors.Join(err, out.Close())
}

// Close closes the storage and removes the copy of the database.
func (s *Quay) Close() (err error) {
	if s.db != nil {
		err = s.db.Close()
	}
	if s.storage != nil {
		err = errors.Join(err, s.storage.Close())
	}
	if s.temp != "" {
		err = errors.Join(err, os.RemoveAll(s.temp))
	}
	return err
}

// Files returns the storage.
func (s *Quay) Files() *os.Root { return s.storage }

// BlobName returns the name of a blob's file.
func (s *Quay) BlobName(d digest.Digest) string { return blobName(d) }

// query calls scan for each row.
func (s *Quay) query(ctx context.Context, scan func(*sql.Rows) error, text string, args ...any) error {
	rows, err := s.db.QueryContext(ctx, text, args...)
	if err != nil {
		return fmt.Errorf("read Quay's database: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return fmt.Errorf("read Quay's database: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read Quay's database: %w", err)
	}
	return nil
}

// repositories is the part of a query for those of images that are not being deleted.
const repositories = ` FROM repository r JOIN user u ON u.id = r.namespace_user_id WHERE r.kind_id = 1 AND r.state <> 3`

// Repositories lists the repositories of images.
func (s *Quay) Repositories(ctx context.Context) (names []string, err error) {
	err = s.query(ctx, func(rows *sql.Rows) error {
		var id int64
		var name string
		err := rows.Scan(&id, &name)
		s.ids[name] = id
		names = append(names, name)
		return err
	}, `SELECT r.id, u.username || '/' || r.name`+repositories)
	slices.Sort(names)
	return names, err
}

// Public lists the repositories that are pulled without a login.
func (s *Quay) Public(ctx context.Context) ([]string, error) {
	if s.install.closed {
		return nil, nil
	}
	return s.public(ctx)
}

func (s *Quay) public(ctx context.Context) (names []string, err error) {
	err = s.query(ctx, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		names = append(names, name)
		return err
	}, `SELECT u.username || '/' || r.name`+repositories+` AND r.visibility_id = 1 ORDER BY 1`)
	return names, err
}

// Content lists all manifests, also those without a tag, which may have been mirrored by digest, and
// the tags that are alive.
func (s *Quay) Content(ctx context.Context, repository string) (Content, error) {
	c := Content{Tags: map[string]digest.Digest{}}
	err := s.query(ctx, func(rows *sql.Rows) error {
		var d string
		err := rows.Scan(&d)
		c.Manifests = append(c.Manifests, digest.Digest(d))
		return err
	}, `SELECT digest FROM manifest WHERE repository_id = ?`, s.ids[repository])
	if err != nil {
		return c, err
	}
	err = s.query(ctx, func(rows *sql.Rows) error {
		var name, d string
		err := rows.Scan(&name, &d)
		c.Tags[name] = digest.Digest(d)
		return err
	}, `SELECT t.name, m.digest FROM tag t JOIN manifest m ON m.id = t.manifest_id
		WHERE t.repository_id = ? AND t.hidden = 0 AND (t.lifetime_end_ms IS NULL OR t.lifetime_end_ms > ?)
		ORDER BY t.lifetime_start_ms`, s.ids[repository], s.now.UnixMilli())
	return c, err
}

// Manifest returns a manifest, which is in the database.
func (s *Quay) Manifest(ctx context.Context, repository string, d digest.Digest) (body []byte, mediaType string, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT m.manifest_bytes, t.name FROM manifest m JOIN mediatype t ON t.id = m.media_type_id
		WHERE m.repository_id = ? AND m.digest = ?`, s.ids[repository], d.String()).Scan(&body, &mediaType)
	return body, mediaType, err
}
