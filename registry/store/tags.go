package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// pushesKept bounds the history of a tag that is moved by pushes. That by runs is kept.
const pushesKept = 50

// tagBatch is how many tags of a manifest one transaction deletes, which pushes wait for.
const tagBatch = 2000

// List lists at most n tags of repo after last (n<0: all), sorted, and whether there are more.
// ErrNotFound: nothing was ever pushed to repo.
func (s *Tags) List(ctx context.Context, repo, last string, n int) (tags []string, more bool, err error) {
	if err := image.CheckRepository(repo); err != nil {
		return nil, false, err
	}
	id, err := repositoryID(ctx, s.db.Reader(), repo)
	if err != nil {
		return nil, false, err
	}
	return s.page(ctx, n, `SELECT name FROM tags WHERE repository = ? AND name > ? ORDER BY name LIMIT ?`, id, last)
}

// Tag is a tag of a repository.
type Tag struct {
	Repository, Name string
	Digest           digest.Digest
}

// All lists at most n tags of all repositories after one.
func (s *Tags) All(ctx context.Context, after Tag, n int) ([]Tag, error) {
	columns := func(t *Tag) []any { return []any{&t.Repository, &t.Name, &t.Digest} }
	// One repository after the other, along the index of their names.
	tags, err := database.List(ctx, s.db.Reader(), columns, `SELECT r.name, t.name, t.digest
		FROM repositories r CROSS JOIN tags t ON t.repository = r.id
		WHERE r.name >= ?1 AND (r.name > ?1 OR t.name > ?2) ORDER BY r.name, t.name LIMIT ?3`, after.Repository, after.Name, n)
	if err != nil {
		return nil, fmt.Errorf("list tags: %w", err)
	}
	return tags, nil
}

// Matching lists the tags with a name like one pattern in repositories with one like another: of
// SQLite's GLOB, whose * matches slashes.
func (s *Tags) Matching(ctx context.Context, repository, name string) ([]Tag, error) {
	columns := func(t *Tag) []any { return []any{&t.Repository, &t.Name, &t.Digest} }
	tags, err := database.List(ctx, s.db.Reader(), columns, `SELECT r.name, t.name, t.digest
		FROM repositories r CROSS JOIN tags t ON t.repository = r.id
		WHERE r.name GLOB ? AND t.name GLOB ? ORDER BY r.name, t.name`, repository, name)
	if err != nil {
		return nil, fmt.Errorf("list tags: %w", err)
	}
	return tags, nil
}

// PulledIn lists the manifests that only pull-through has brought to repositories with a name like a
// pattern, as Matching has it. They need not have tags.
func (s *Manifests) PulledIn(ctx context.Context, repository string) ([]Tag, error) {
	columns := func(t *Tag) []any { return []any{&t.Repository, &t.Digest} }
	all, err := database.List(ctx, s.db.Reader(), columns, `SELECT r.name, l.digest
		FROM repositories r CROSS JOIN repository_manifests l ON l.repository = r.id
		WHERE r.name GLOB ? AND l.pulled <> 0 ORDER BY r.name, l.digest`, repository)
	if err != nil {
		return nil, fmt.Errorf("list manifests that were pulled through: %w", err)
	}
	return all, nil
}

// Repositories lists the repositories that have a manifest, as Tags.List does.
func (s *Store) Repositories(ctx context.Context, last string, n int) (names []string, more bool, err error) {
	return s.page(ctx, n, `SELECT name FROM repositories r WHERE name > ?
		AND EXISTS (SELECT 1 FROM repository_manifests rm WHERE rm.repository = r.id)
		ORDER BY name LIMIT ?`, last)
}

// page returns at most n names. text takes args and then a limit.
func (s *core) page(ctx context.Context, n int, text string, args ...any) (names []string, more bool, err error) {
	if n == 0 {
		return []string{}, false, nil
	}
	limit := math.MaxInt
	if n > 0 {
		limit = n + 1 // to know whether there are more
	}
	names, err = database.Column[string](ctx, s.db.Reader(), text, append(args, limit)...)
	if err != nil {
		return nil, false, fmt.Errorf("list names: %w", err)
	}
	if n > 0 && len(names) > n {
		return names[:n], true, nil
	}
	return names, false, nil
}

// Delete deletes a tag and keeps its manifest. That of what an attached cluster needs stays: *KeptError.
func (s *Tags) Delete(ctx context.Context, repo, tag string) error {
	if err := image.CheckRepository(repo); err != nil {
		return err
	}
	if err := image.CheckTag(tag); err != nil {
		return err
	}
	return s.db.ShareFreeing(ctx, func(ctx context.Context, tx *sql.Tx) error {
		id, err := repositoryID(ctx, tx, repo)
		if err != nil {
			return err
		}
		return s.dropTag(ctx, tx, id, repo, tag)
	})
}

// MayDelete returns the error with which Delete would refuse a tag.
func (s *Tags) MayDelete(ctx context.Context, repo, tag string) error {
	if err := image.CheckRepository(repo); err != nil {
		return err
	}
	id, err := repositoryID(ctx, s.db.Reader(), repo)
	if err != nil {
		return err
	}
	return mayUntag(ctx, s.db.Reader(), id, repo, tag)
}

// untag deletes the tags of some manifests in a repository.
func (s *core) untag(ctx context.Context, tx *sql.Tx, repository int64, ds []digest.Digest) error {
	return s.dropTags(ctx, tx, `SELECT t.repository, t.name, '' FROM json_each(?3) d CROSS JOIN tags t
		WHERE t.repository = ?2 AND t.digest = d.value`, repository, asJSON(ds))
}

// untagMost deletes tags of a manifest, a batch at a time, until the rest fits into one
// transaction.
func (s *core) untagMost(ctx context.Context, repo string, d digest.Digest) error {
	for {
		var id int64
		err := s.db.Reader().QueryRowContext(ctx, `SELECT r.id FROM repositories r CROSS JOIN tags t
			WHERE r.name = ? AND t.repository = r.id AND t.digest = ? LIMIT 1 OFFSET ?`, repo, d, tagBatch).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("find tags of %s: %w", d, err)
		}
		err = s.db.ShareFreeing(ctx, func(ctx context.Context, tx *sql.Tx) error {
			_, err := s.untagSome(ctx, tx, id, d)
			return err
		})
		if err != nil {
			return err
		}
	}
}

// untagSome deletes a batch of the tags of a manifest, and reports whether there are more.
func (s *core) untagSome(ctx context.Context, tx *sql.Tx, repository int64, d digest.Digest) (more bool, err error) {
	err = s.dropTags(ctx, tx, `SELECT t.repository, t.name, '' FROM tags t
		WHERE t.repository = ?2 AND t.digest = ?3 ORDER BY t.name LIMIT ?4`, repository, d, tagBatch)
	if err != nil {
		return false, err
	}
	return database.Exists(ctx, tx, `SELECT 1 FROM tags WHERE repository = ? AND digest = ?`, repository, d)
}

func (s *core) dropTag(ctx context.Context, tx *sql.Tx, repository int64, repo, tag string) error {
	if err := mayUntag(ctx, tx, repository, repo, tag); err != nil {
		return err
	}
	return s.dropTags(ctx, tx, `VALUES (CAST(?2 AS BIGINT), ?3, '')`, repository, tag)
}

// mayUntag returns an error for a tag that does not exist, or of what an attached cluster needs.
func mayUntag(ctx context.Context, q database.Querier, repository int64, repo, tag string) error {
	var d digest.Digest
	err := q.QueryRowContext(ctx, `SELECT digest FROM tags WHERE repository = ? AND name = ?`, repository, tag).Scan(&d)
	if err != nil {
		return orNotFound(err, "tag", tag)
	}
	return checkKept(ctx, q, repository, d, repo+":"+tag)
}

// dropTags deletes tags: moves selects the repository, the name and an empty digest of each.
func (s *core) dropTags(ctx context.Context, tx *sql.Tx, moves string, args ...any) error {
	return s.change(ctx, tx, deleteMoving, moves, args...)
}

// moveTags moves tags: moves selects the repository, name and digest of each.
func (s *core) moveTags(ctx context.Context, tx *sql.Tx, moves string, args ...any) error {
	return s.change(ctx, tx, upsertMoving, moves, args...)
}

// change records the moves of tags and runs a statement on those that change. The parameters of
// moves begin with ?2. A thousand tags take no more statements than one.
func (s *core) change(ctx context.Context, tx *sql.Tx, statement, moves string, args ...any) error {
	moving := movingTags(moves)
	args = append([]any{database.Nanos(s.now())}, args...)
	for _, statement := range []string{recordMoves, trimHistory, statement} {
		n, err := database.Affected(ctx, tx, moving+statement, args...)
		if err != nil {
			return fmt.Errorf("move tags: %w", err)
		}
		if n == 0 && statement != trimHistory {
			break // none changes
		}
	}
	return nil
}

// movingTags begins a statement with the moves that change a tag.
func movingTags(moves string) string {
	return `WITH moves (repository, name, digest) AS (` + moves + `),
		moving AS MATERIALIZED (SELECT DISTINCT m.repository, m.name, coalesce(t.digest, '') AS was, m.digest AS became
			FROM moves m LEFT JOIN tags t ON t.repository = m.repository AND t.name = m.name
			WHERE coalesce(t.digest, '') <> m.digest) `
}

const (
	recordMoves = `INSERT INTO tag_history (repository, name, was, became, moved, run)
		SELECT repository, name, was, became, ?1, '' FROM moving`
	deleteMoving = `DELETE FROM tags WHERE (repository, name) IN (SELECT repository, name FROM moving)`
	upsertMoving = `INSERT INTO tags (repository, name, digest, updated, checked)
		SELECT repository, name, became, ?1, 0 FROM moving WHERE true
		ON CONFLICT (repository, name) DO UPDATE SET digest = excluded.digest, updated = excluded.updated`
)

// trimHistory deletes old moves by pushes: a tag that every build pushes would grow the database
// for ever.
var trimHistory = fmt.Sprintf(`DELETE FROM tag_history WHERE id IN (SELECT h.id FROM moving m CROSS JOIN tag_history h
	WHERE h.repository = m.repository AND h.name = m.name AND h.run = '' AND h.id <= (SELECT o.id FROM tag_history o
		WHERE o.repository = m.repository AND o.name = m.name AND o.run = '' ORDER BY o.id DESC LIMIT 1 OFFSET %d))`, pushesKept)

// asJSON returns a JSON array for json_each.
func asJSON[S ~string](all []S) string {
	if len(all) == 0 {
		return "[]"
	}
	text, _ := json.Marshal(all) // of strings, which cannot fail
	return string(text)
}

// Checked returns when the upstream last confirmed a tag; the zero time means never.
func (s *Tags) Checked(ctx context.Context, repo, tag string) (time.Time, error) {
	var checked int64
	err := s.db.Reader().QueryRowContext(ctx, `SELECT t.checked FROM tags t JOIN repositories r ON r.id = t.repository
		WHERE r.name = ? AND t.name = ?`, repo, tag).Scan(&checked)
	return database.Time(checked), orNotFound(err, "tag", tag)
}

// SetChecked records when the upstream confirmed a tag.
func (s *Tags) SetChecked(ctx context.Context, repo, tag string, t time.Time) error {
	return s.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		n, err := database.Affected(ctx, tx, `UPDATE tags SET checked = ?
			WHERE name = ? AND repository = (SELECT id FROM repositories WHERE name = ?)`, database.Nanos(t), tag, repo)
		if err == nil && n == 0 {
			return &NotFoundError{Kind: "tag", Name: tag}
		}
		return err
	})
}
