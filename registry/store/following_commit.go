package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Commit shows what came, so that this store has what the first had when the last page was read, which must
// have been one with CaughtUp. Blobs are linked before that, as by Run.Commit; all else is one transaction.
// users includes the accounts, and the names of those that changed or went are returned. *NotFoundError
// while content is not here.
func (s *Following) Commit(ctx context.Context, users bool) (changed []string, err error) {
	r, err := s.Run(ctx)
	if err == nil {
		err = s.recheck(ctx)
	}
	if err == nil {
		err = s.guard.Runs.EnterCommit(ctx, r.id)
	}
	if err != nil {
		return nil, err
	}
	defer s.guard.Runs.LeaveCommit(r.id)
	watch, err := s.guard.Runs.Watch(ctx, r.id)
	if err != nil {
		return nil, err
	}
	defer watch.End()
	for shown := false; !shown; {
		if err := errors.Join(watch.Again(ctx), r.linkOnly(ctx)); err != nil {
			return nil, fmt.Errorf("show what is followed: %w", err)
		}
		err := s.db.Write(ctx, func(tx *sql.Tx) (err error) {
			lost, many, err := watch.Take(ctx, tx)
			if shown = err == nil && !many; !shown {
				return err // or they are too many for this transaction
			}
			if err = r.linkLost(ctx, tx, lost); err == nil {
				changed, err = s.apply(ctx, tx, r, users)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("show what is followed: %w", err)
		}
	}
	s.clearEnded(ctx, r.id)
	return changed, nil
}

// recheck records that manifests are lacking which were here when they were named by the feed.
func (s *Following) recheck(ctx context.Context) error {
	return s.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE followed SET lacks = 1 WHERE kind = 'manifest' AND state <> '' AND lacks = 0
			AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.digest = followed.name)`)
		return err
	})
}

// linkOnly links the blobs of a run, and no references: what pull-through brought need not have all.
func (r *Run) linkOnly(ctx context.Context) error {
	if err := r.makeRepositories(ctx); err != nil {
		return err
	}
	return r.linkParts(ctx, "run_blobs", linkedStep, linkBlobs)
}

// apply shows what came, in one transaction.
func (s *Following) apply(ctx context.Context, tx *sql.Tx, r *Run, users bool) (changed []string, err error) {
	lacks, err := database.Exists(ctx, tx, `SELECT 1 FROM followed WHERE lacks = 1`)
	if err == nil && lacks {
		err = &NotFoundError{Kind: "content", Name: "of what is followed"}
	}
	var whole bool
	if err == nil {
		err = tx.QueryRowContext(ctx, `SELECT whole FROM following`).Scan(&whole)
	}
	for _, step := range []func() error{
		func() error { return s.applyLinks(ctx, tx, r) },
		func() error { return s.applyTags(ctx, tx, whole) },
		func() error { return s.applyGone(ctx, tx, whole) },
		func() error { return s.applyOrigins(ctx, tx) },
		func() error { return s.applyClusters(ctx, tx, whole) },
		func() error { return s.applyNotes(ctx, tx, whole) },
		func() (err error) {
			if users {
				changed, err = s.applyUsers(ctx, tx, whole)
			}
			return err
		},
		func() error { return s.ended(ctx, tx, r) },
	} {
		if err == nil {
			err = step()
		}
	}
	return changed, err
}

const (
	followedManifests = `INSERT INTO repository_manifests (repository, digest, linked, pulled, used, media_type)
		SELECT r.id, f.name, CAST(f.state ->> 'linked' AS BIGINT), CAST(f.state ->> 'pulled' AS BIGINT), ?1, f.state ->> 'mediaType' FROM followed f CROSS JOIN repositories r
		WHERE f.kind = 'manifest' AND f.state <> '' AND r.name = f.repository
		ON CONFLICT (repository, digest) DO UPDATE SET pulled = excluded.pulled, media_type = excluded.media_type, linked = excluded.linked
		WHERE repository_manifests.pulled <> excluded.pulled OR repository_manifests.media_type <> excluded.media_type
			OR repository_manifests.linked <> excluded.linked`
	followedTags = `SELECT r.id, f.name, f.state ->> 'digest' FROM followed f CROSS JOIN repositories r
		WHERE f.kind = 'tag' AND f.state <> '' AND r.name = f.repository AND CAST(?1 AS BIGINT) = ?1`
	followedGone = `SELECT r.id, f.name, '' FROM followed f CROSS JOIN repositories r
		WHERE f.kind = 'tag' AND f.state = '' AND r.name = f.repository AND CAST(?1 AS BIGINT) = ?1`
	unlistedTags = `SELECT t.repository, t.name, '' FROM tags t CROSS JOIN repositories r
		WHERE r.id = t.repository AND NOT EXISTS (SELECT 1 FROM followed f
			WHERE f.kind = 'tag' AND f.repository = r.name AND f.name = t.name AND f.state <> '') AND CAST(?1 AS BIGINT) = ?1`
	unlistedManifests = `SELECT l.repository, l.digest FROM repository_manifests l CROSS JOIN repositories r
		WHERE r.id = l.repository AND NOT EXISTS (SELECT 1 FROM followed f
			WHERE f.kind = 'manifest' AND f.repository = r.name AND f.name = l.digest AND f.state <> '')`
)

// unlistedNotes deletes what image sets want that a list of all does not have.
const unlistedNotes = `DELETE FROM meta WHERE name >= '` + wantsNote + `' AND name < 'wants!'
	AND name NOT IN (SELECT name FROM followed WHERE kind = 'note' AND state <> '')`

// followedPulled marks the links of blobs that only manifests which were pulled through need.
var followedPulled = `UPDATE repository_blobs SET pulled = 1 WHERE pulled = 0
	AND (repository, digest) IN (SELECT r.id, b.digest FROM run_blobs b CROSS JOIN repositories r WHERE b.run = ? AND r.name = b.repository)
	AND EXISTS (SELECT 1 FROM repository_manifests m WHERE m.repository = repository_blobs.repository AND m.pulled <> 0)
	AND NOT ` + namedIn("repository_blobs.repository", "repository_blobs.digest", "rm.pulled = 0")

func (s *Following) applyLinks(ctx context.Context, tx *sql.Tx, r *Run) error {
	if _, err := tx.ExecContext(ctx, followedManifests, database.Nanos(s.now())); err != nil {
		return fmt.Errorf("link manifests: %w", err)
	}
	if _, err := tx.ExecContext(ctx, followedPulled, r.id); err != nil {
		return fmt.Errorf("mark the blobs of what was pulled through: %w", err)
	}
	return nil
}

func (s *Following) applyTags(ctx context.Context, tx *sql.Tx, whole bool) error {
	err := s.moveTags(ctx, tx, followedTags)
	if err == nil {
		err = s.dropTags(ctx, tx, followedGone)
	}
	if err == nil && whole {
		err = s.dropTags(ctx, tx, unlistedTags)
	}
	if err == nil {
		_, err = tx.ExecContext(ctx, `INSERT INTO tags (repository, name, digest, updated, checked)
			SELECT r.id, f.name, f.state ->> 'digest', CAST(f.state ->> 'updated' AS BIGINT), 0 FROM followed f CROSS JOIN repositories r
			WHERE f.kind = 'tag' AND f.state <> '' AND r.name = f.repository
			ON CONFLICT (repository, name) DO UPDATE SET updated = excluded.updated WHERE tags.updated <> excluded.updated`)
	}
	return err
}

// applyGone removes the manifests that the first does not have.
func (s *Following) applyGone(ctx context.Context, tx *sql.Tx, whole bool) error {
	columns := func(u *linkKey) []any { return []any{&u.repository, &u.digest} }
	gone, err := database.List(ctx, tx, columns, `SELECT l.repository, l.digest FROM followed f CROSS JOIN repositories r CROSS JOIN repository_manifests l
		WHERE f.kind = 'manifest' AND f.state = '' AND r.name = f.repository AND l.repository = r.id AND l.digest = f.name`)
	if err == nil && whole {
		gone, err = database.List(ctx, tx, columns, unlistedManifests)
	}
	if err != nil {
		return fmt.Errorf("list what the first does not have: %w", err)
	}
	of := map[int64][]digest.Digest{}
	for _, u := range gone {
		of[u.repository] = append(of[u.repository], u.digest)
	}
	for repository, all := range of {
		for some := range slices.Chunk(all, runBatch) {
			if _, err := tx.ExecContext(ctx, unlinkAll, repository, asJSON(some)); err != nil {
				return fmt.Errorf("remove manifests: %w", err)
			}
			if err := dropUnlinked(ctx, tx, some...); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Following) applyOrigins(ctx context.Context, tx *sql.Tx) error {
	for _, text := range []string{
		`DELETE FROM origins WHERE (repository, digest) IN (SELECT r.id, f.name FROM followed f CROSS JOIN repositories r
			WHERE f.kind = 'manifest' AND f.state <> '' AND r.name = f.repository)
			AND NOT EXISTS (SELECT 1 FROM repositories r CROSS JOIN followed f CROSS JOIN json_each(f.state, '$.origins') o
				WHERE r.id = origins.repository AND f.kind = 'manifest' AND f.repository = r.name AND f.name = origins.digest
				AND o.value ->> 'tag' = origins.tag AND o.value ->> 'origin' = origins.origin)`,
		`INSERT INTO origins (repository, digest, tag, origin, about, recorded)
			SELECT r.id, f.name, o.value ->> 'tag', o.value ->> 'origin', o.value ->> 'about', CAST(o.value ->> 'recorded' AS BIGINT)
			FROM followed f CROSS JOIN repositories r CROSS JOIN json_each(f.state, '$.origins') o
			WHERE f.kind = 'manifest' AND f.state <> '' AND r.name = f.repository
			ON CONFLICT (repository, digest, tag, origin) DO UPDATE SET about = excluded.about, recorded = excluded.recorded
			WHERE origins.about <> excluded.about OR origins.recorded <> excluded.recorded`,
	} {
		if _, err := tx.ExecContext(ctx, text); err != nil {
			return fmt.Errorf("set origins: %w", err)
		}
	}
	return nil
}

// each calls do for what came of a kind, with a nil state for what is gone.
func (s *Following) each(ctx context.Context, tx *sql.Tx, kind string, do func(name string, state json.RawMessage) error) error {
	columns := func(c *Change) []any { return []any{&c.Name, (*[]byte)(&c.State)} }
	all, err := database.List(ctx, tx, columns, `SELECT name, state FROM followed WHERE kind = ? ORDER BY name`, kind)
	for _, c := range all {
		if len(c.State) == 0 {
			c.State = nil
		}
		if err == nil {
			err = do(c.Name, c.State)
		}
	}
	if err != nil {
		return fmt.Errorf("set what came of kind %s: %w", kind, err)
	}
	return nil
}

func (s *Following) applyClusters(ctx context.Context, tx *sql.Tx, whole bool) error {
	err := s.each(ctx, tx, kindCluster, func(id string, state json.RawMessage) error {
		if state == nil {
			_, err := tx.ExecContext(ctx, `DELETE FROM clusters WHERE id = ?`, id)
			return err
		}
		var c clusterState
		err := json.Unmarshal(state, &c)
		if err == nil {
			_, err = tx.ExecContext(ctx, `INSERT INTO clusters (id, name, "user", facts, updated) VALUES (?, ?, ?, ?, ?)
				ON CONFLICT (id) DO UPDATE SET name = excluded.name, "user" = excluded."user", facts = excluded.facts, updated = excluded.updated`,
				id, c.Name, c.User, c.Facts, c.Updated)
		}
		if err == nil {
			err = keep(ctx, tx, id, asJSON(append([]string{}, c.Needs...)))
		}
		return err
	})
	if err == nil && whole {
		_, err = tx.ExecContext(ctx, `DELETE FROM clusters WHERE id NOT IN (SELECT name FROM followed WHERE kind = 'cluster' AND state <> '')`)
	}
	return err
}

func (s *Following) applyNotes(ctx context.Context, tx *sql.Tx, whole bool) error {
	err := s.each(ctx, tx, kindNote, func(name string, state json.RawMessage) error {
		var n noteState
		if state != nil {
			if err := json.Unmarshal(state, &n); err != nil {
				return err
			}
		}
		return setNote(ctx, tx, name, n.Value)
	})
	if err == nil && whole {
		_, err = tx.ExecContext(ctx, unlistedNotes)
	}
	return err
}

// applyUsers returns the names of the accounts that changed or went.
func (s *Following) applyUsers(ctx context.Context, tx *sql.Tx, whole bool) (changed []string, err error) {
	err = s.each(ctx, tx, kindUser, func(name string, state json.RawMessage) error {
		changed = append(changed, name)
		if state == nil {
			_, err := tx.ExecContext(ctx, `DELETE FROM users WHERE name = ?`, name)
			return err
		}
		var u userState
		err := json.Unmarshal(state, &u)
		if u.PasswordHash == nil {
			u.PasswordHash = []byte{}
		}
		if err == nil {
			_, err = tx.ExecContext(ctx, `INSERT INTO users (name, role, repositories, password_hash, created, updated) VALUES (?, ?, ?, ?, ?, ?)
				ON CONFLICT (name) DO UPDATE SET role = excluded.role, repositories = excluded.repositories, password_hash = excluded.password_hash,
				created = excluded.created, updated = excluded.updated`, name, u.Role, u.Repositories, u.PasswordHash, u.Created, u.Updated)
		}
		return err
	})
	if err == nil && whole {
		var gone []string
		gone, err = database.Column[string](ctx, tx, `DELETE FROM users WHERE name NOT IN
			(SELECT name FROM followed WHERE kind = 'user' AND state <> '') RETURNING name`)
		changed = append(changed, gone...)
	}
	return changed, err
}

// ended forgets what was shown, and ends its run.
func (s *Following) ended(ctx context.Context, tx *sql.Tx, r *Run) error {
	err := abort(ctx, tx, r.id)
	if err == nil {
		_, err = tx.ExecContext(ctx, `DELETE FROM followed`)
	}
	if err == nil {
		_, err = tx.ExecContext(ctx, `UPDATE following SET whole = 0, run = '', equal = ?`, database.Nanos(s.now()))
	}
	return err
}

// SetEqual records that this store is equal to the first now, without a change.
func (s *Following) SetEqual(ctx context.Context) error {
	return s.setEqual(ctx, database.Nanos(s.now()))
}

// ForgetEqual records that this store has never been equal to the first, since that is another one now.
func (s *Following) ForgetEqual(ctx context.Context) error { return s.setEqual(ctx, 0) }

func (s *Following) setEqual(ctx context.Context, at int64) error {
	err := s.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE following SET equal = ?`, at)
		return err
	})
	if err != nil {
		return fmt.Errorf("record when it was equal to the first: %w", err)
	}
	return nil
}
