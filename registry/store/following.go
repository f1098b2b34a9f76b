package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Following is what this store has of the feed of the appliance that it follows, the first. Pages of the
// feed are saved, the content that they need is put into a run, and Commit shows all of it in one
// transaction. One caller at a time.
type Following struct{ *core }

// Followed is how far this store has followed.
type Followed struct {
	Position string    // "" before the first registration
	Equal    time.Time // when it was last equal to the first
	Changes  int       // that came and do not show yet
	Whole    bool      // they will be all that the first has, and what else is here goes
}

// Lacking is a manifest or a blob of the feed that is not here yet.
type Lacking struct {
	Repository string
	Digest     digest.Digest
	Manifest   bool
	MediaType  string // declared of a manifest that names none itself
	// Blobs are those that the first has of a manifest that was pulled through there, nil: all.
	Blobs map[digest.Digest]bool
	Size  int64 // of a blob

	kind string
}

// State returns how far this store has followed.
func (s *Following) State(ctx context.Context) (f Followed, err error) {
	var equal int64
	err = s.db.Reader().QueryRowContext(ctx, `SELECT position, equal, whole FROM following`).Scan(&f.Position, &equal, &f.Whole)
	if errors.Is(err, sql.ErrNoRows) {
		return Followed{}, nil
	}
	if err == nil {
		err = s.db.Reader().QueryRowContext(ctx, `SELECT count(*) FROM (SELECT 1 FROM followed LIMIT ?) few`, pendingCounted).Scan(&f.Changes)
	}
	if err != nil {
		return Followed{}, fmt.Errorf("read what is followed: %w", err)
	}
	f.Equal = database.Time(equal)
	return f, nil
}

// Begin begins at a position that is followed by a list of all: what the list does not have goes with the
// next Commit. Content that came already stays in its run.
func (s *Following) Begin(ctx context.Context, position string) error {
	err := s.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM followed`)
		if err == nil {
			_, err = tx.ExecContext(ctx, `INSERT INTO following (one, position, whole, run, equal) VALUES (1, ?, 1, '', 0)
				ON CONFLICT (one) DO UPDATE SET position = excluded.position, whole = 1`, position)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("begin to follow: %w", err)
	}
	return nil
}

// End forgets what came and does not show yet, and the position. What shows stays.
func (s *Following) End(ctx context.Context) error {
	var run string
	err := s.db.WriteFreeing(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `DELETE FROM following RETURNING run`).Scan(&run)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err == nil && run != "" {
			err = abort(ctx, tx, run)
		}
		if err == nil {
			_, err = tx.ExecContext(ctx, `DELETE FROM followed`)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("end following: %w", err)
	}
	if run != "" {
		s.clearEnded(ctx, run)
	}
	return nil
}

// Run returns the run that keeps the content of what came, and begins it if there is none. Collections do
// not end it.
func (s *Following) Run(ctx context.Context) (*Run, error) {
	var id string
	err := s.db.Reader().QueryRowContext(ctx, `SELECT f.run FROM following f CROSS JOIN runs r WHERE r.id = f.run AND r.committed = 0`).Scan(&id)
	if err == nil {
		return &Run{store: s.core, id: id}, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("read the run of what is followed: %w", err)
	}
	r, err := (&Runs{s.core}).Begin(ctx, "what the followed appliance has")
	if err == nil {
		err = s.db.Write(ctx, func(tx *sql.Tx) error {
			n, err := database.Affected(ctx, tx, `UPDATE following SET run = ?`, r.id)
			if err == nil && n == 0 {
				err = &NotFoundError{Kind: "position", Name: "of what is followed"}
			}
			if err == nil { // what an ended run had has to come again
				_, err = tx.ExecContext(ctx, lacksAgain)
			}
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("begin the run of what is followed: %w", err)
	}
	return r, nil
}

// lacksAgain marks what does not show in its repository.
const lacksAgain = `UPDATE followed SET lacks = 1 WHERE kind IN ('manifest', 'blob') AND state <> '' AND lacks = 0
	AND NOT EXISTS (SELECT 1 FROM repositories r WHERE r.name = followed.repository AND
		CASE followed.kind WHEN 'blob' THEN EXISTS (SELECT 1 FROM repository_blobs l WHERE l.repository = r.id AND l.digest = followed.name)
		ELSE EXISTS (SELECT 1 FROM repository_manifests m WHERE m.repository = r.id AND m.digest = followed.name) END)`

// Save saves a page and the position after it.
func (s *Following) Save(ctx context.Context, p Page) error {
	err := s.db.Write(ctx, func(tx *sql.Tx) error {
		var run string
		if err := tx.QueryRowContext(ctx, `UPDATE following SET position = ? RETURNING run`, p.Next).Scan(&run); err != nil {
			return orNotFound(err, "position", "of what is followed")
		}
		for _, c := range p.Changes {
			lacks, err := lacking(ctx, tx, run, c)
			if err == nil {
				_, err = tx.ExecContext(ctx, `INSERT INTO followed (kind, repository, name, state, lacks) VALUES (?, ?, ?, ?, ?)
					ON CONFLICT (kind, repository, name) DO UPDATE SET state = excluded.state, lacks = excluded.lacks`, c.Kind, c.Repository, c.Name, string(c.State), lacks)
			}
			if err != nil {
				return fmt.Errorf("%s %s %s: %w", c.Kind, c.Repository, c.Name, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("save changes: %w", err)
	}
	return nil
}

// lacking checks a change, and reports whether content of it is not here.
func lacking(ctx context.Context, q database.Querier, run string, c Change) (bool, error) {
	if err := checkChange(c); err != nil || c.State == nil {
		return false, err
	}
	switch c.Kind {
	case kindManifest:
		var m manifestState
		if err := json.Unmarshal(c.State, &m); err != nil {
			return false, err
		}
		return lacksManifest(ctx, q, run, c, m)
	case kindBlob:
		here, err := database.Exists(ctx, q, `SELECT 1 FROM repositories r CROSS JOIN repository_blobs l
			WHERE r.name = ? AND l.repository = r.id AND l.digest = ?`, c.Repository, c.Name)
		return !here, err
	}
	return false, nil
}

// checkChange returns an error for a change that this version does not know, or whose names are malformed.
func checkChange(c Change) error {
	switch c.Kind {
	case kindManifest, kindBlob:
		return checkRepositoryAndDigest(c.Repository, digest.Digest(c.Name))
	case kindTag:
		return errors.Join(image.CheckRepository(c.Repository), image.CheckTag(c.Name))
	case kindUser, kindCluster, kindNote:
		return nil
	}
	return &InvalidError{What: "change", Reason: "its kind is not known to this version: upgrade this appliance first"}
}

// lacksManifest reports whether a manifest or a blob of it is neither in its repository nor in the run. A manifest in the
// run may lack blobs: the first had fewer of what it pulls through when the manifest came.
func lacksManifest(ctx context.Context, q database.Querier, run string, c Change, m manifestState) (bool, error) {
	here, err := database.Exists(ctx, q, `SELECT 1 FROM run_manifests WHERE run = ?1 AND repository = ?2 AND digest = ?3
		UNION ALL SELECT 1 FROM repositories r CROSS JOIN repository_manifests l
		WHERE r.name = ?2 AND l.repository = r.id AND l.digest = ?3`, run, c.Repository, c.Name)
	if err != nil || !here {
		return true, err
	}
	return database.Exists(ctx, q, `SELECT 1 FROM manifest_refs f WHERE f.manifest = ?1 AND f.kind <> 'child' AND f.elsewhere = 0
		AND (?3 <> 0 OR f.digest IN (SELECT value FROM json_each(?4)))
		AND NOT EXISTS (SELECT 1 FROM run_blobs p WHERE p.run = ?5 AND p.repository = ?2 AND p.digest = f.digest)
		AND NOT EXISTS (SELECT 1 FROM repositories r CROSS JOIN repository_blobs l
			WHERE r.name = ?2 AND l.repository = r.id AND l.digest = f.digest)`, c.Name, c.Repository, m.Pulled == 0, asJSON(append([]string{}, m.Blobs...)), run)
}

// Lacking lists the next n manifests and blobs that came by the feed and are not here, after one.
func (s *Following) Lacking(ctx context.Context, after Lacking, n int) (all []Lacking, err error) {
	scan := func(rows *sql.Rows) error {
		var l Lacking
		var state string
		if err := rows.Scan(&l.kind, &l.Repository, &l.Digest, &state); err != nil {
			return err
		}
		l.Manifest = l.kind == kindManifest
		var m manifestState
		var b blobState
		err := errors.Join(json.Unmarshal([]byte(state), &m), json.Unmarshal([]byte(state), &b))
		l.MediaType = m.MediaType
		if m.Pulled != 0 {
			l.Blobs = map[digest.Digest]bool{}
			for _, d := range m.Blobs {
				l.Blobs[digest.Digest(d)] = true
			}
		}
		l.Size = b.Size
		all = append(all, l)
		return err
	}
	err = database.Query(ctx, s.db.Reader(), scan, `SELECT kind, repository, name, state FROM followed
		WHERE lacks = 1 AND (kind, repository, name) > (?, ?, ?) ORDER BY kind, repository, name LIMIT ?`, after.kind, after.Repository, after.Digest, n)
	if err != nil {
		return nil, fmt.Errorf("list what is not here yet: %w", err)
	}
	return all, nil
}

// Manifest returns the bytes of a manifest that any repository has. ErrNotFound.
func (s *Following) Manifest(ctx context.Context, d digest.Digest) (body []byte, err error) {
	err = s.db.Reader().QueryRowContext(ctx, `SELECT body FROM manifests WHERE digest = ?`, d).Scan(&body)
	if err == nil {
		err = s.hashes(Manifest{Digest: d, Body: body})
	}
	return body, orNotFound(err, "manifest", d.String())
}

// Arrived is a manifest whose blobs are in the run or its repository, as far as the first has them.
type Arrived struct {
	Lacking
	Body []byte
}

// Stage puts manifests into the run: *DigestError for one that is another.
func (s *Following) Stage(ctx context.Context, r *Run, all []Arrived) error {
	for _, a := range all {
		m, p, err := s.arrived(a)
		if err != nil {
			return fmt.Errorf("manifest %s of %s: %w", a.Digest, a.Repository, err)
		}
		if err := s.databaseSpace(int64(len(a.Body))); err != nil {
			return fmt.Errorf("put manifest %s: %w", a.Digest, err)
		}
		err = r.share(ctx, func(ctx context.Context, tx *sql.Tx) error {
			if err := insertManifest(ctx, tx, &m, p); err != nil {
				return err
			}
			if err := r.stage(ctx, tx, a.Repository, m.Digest, p.Declared); err != nil {
				return err
			}
			return here(ctx, tx, a.Lacking)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// arrived verifies and parses a manifest. The first has accepted it, so that it is not judged as a new one.
func (s *Following) arrived(a Arrived) (Manifest, image.Manifest, error) {
	if got := a.Digest.Algorithm().FromBytes(a.Body); got != a.Digest {
		return Manifest{}, image.Manifest{}, &DigestError{Want: a.Digest, Got: got}
	}
	p, err := image.Parse(a.MediaType, a.Body)
	return Manifest{
		Digest: a.Digest, MediaType: p.EffectiveType(), ArtifactType: p.ArtifactType, Subject: p.Subject,
		Annotations: p.Annotations, Body: a.Body, Created: database.Time(database.Nanos(s.now())),
	}, p, err
}

// HasBlob records that a blob of the feed is in the run, or not at the first any more.
func (s *Following) HasBlob(ctx context.Context, l Lacking) error {
	return s.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error { return here(ctx, tx, l) })
}

func here(ctx context.Context, tx *sql.Tx, l Lacking) error {
	_, err := tx.ExecContext(ctx, `UPDATE followed SET lacks = 0 WHERE kind = ? AND repository = ? AND name = ?`, l.kind, l.Repository, l.Digest)
	return err
}
