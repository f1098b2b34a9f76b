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
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// pushesKept is how many moves of a tag by pushes are remembered. Those by runs all are.
const pushesKept = 50

// tagBatch is how many tags of a manifest that is deleted are deleted in one transaction, which pushes wait for.
const tagBatch = 2000

// List lists the tags of repo after last in byte order, at most n of them (n<0: all), and reports whether
// there are more. ErrNotFound: nothing was ever pushed to repo.
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

// Repositories lists the repositories that have a manifest, in the way of Tags.
func (s *Store) Repositories(ctx context.Context, last string, n int) (names []string, more bool, err error) {
	return s.page(ctx, n, `SELECT name FROM repositories r WHERE name > ?
		AND EXISTS (SELECT 1 FROM repository_manifests rm WHERE rm.repository = r.id)
		ORDER BY name LIMIT ?`, last)
}

// page reads at most n names. text takes args and then a limit.
func (s *core) page(ctx context.Context, n int, text string, args ...any) (names []string, more bool, err error) {
	names = []string{}
	if n == 0 {
		return names, false, nil
	}
	limit := -1
	if n > 0 {
		limit = n + 1 // one more than asked for tells whether there are more
	}
	scan := func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		names = append(names, name)
		return err
	}
	if err := sqlite.Query(ctx, s.db.Reader(), scan, text, append(args, limit)...); err != nil {
		return nil, false, fmt.Errorf("list names: %w", err)
	}
	if n > 0 && len(names) > n {
		return names[:n], true, nil
	}
	return names, false, nil
}

// Delete deletes a tag and leaves what it named.
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
		return s.dropTag(ctx, tx, id, tag)
	})
}

// untag deletes the tags of a repository that name some manifests.
func (s *core) untag(ctx context.Context, tx *sql.Tx, repository int64, ds []digest.Digest) error {
	return s.dropTags(ctx, tx, `SELECT t.repository, t.name, '' FROM json_each(?3) d CROSS JOIN tags t
		WHERE t.repository = ?2 AND t.digest = d.value`, repository, asJSON(ds))
}

// untagMost deletes, a part at a time, the tags that name a manifest, until there are few enough for one transaction.
func (s *core) untagMost(ctx context.Context, repo string, d digest.Digest) error {
	const these = ` FROM repositories r CROSS JOIN tags t WHERE r.name = ? AND t.repository = r.id AND t.digest = ? LIMIT `
	for {
		var id int64
		err := s.db.Reader().QueryRowContext(ctx, `SELECT r.id`+these+fmt.Sprintf(`1 OFFSET %d`, tagBatch), repo, d).Scan(&id)
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

// untagSome deletes as many tags of a manifest as one transaction is for, and reports whether there are more.
func (s *core) untagSome(ctx context.Context, tx *sql.Tx, repository int64, d digest.Digest) (more bool, err error) {
	err = s.dropTags(ctx, tx, fmt.Sprintf(`SELECT t.repository, t.name, '' FROM tags t
		WHERE t.repository = ?2 AND t.digest = ?3 ORDER BY t.name LIMIT %d`, tagBatch), repository, d)
	if err != nil {
		return false, err
	}
	return sqlite.Exists(ctx, tx, `SELECT 1 FROM tags WHERE repository = ? AND digest = ?`, repository, d)
}

func (s *core) dropTag(ctx context.Context, tx *sql.Tx, repository int64, tag string) error {
	found, err := sqlite.Exists(ctx, tx, `SELECT 1 FROM tags WHERE repository = ? AND name = ?`, repository, tag)
	if err == nil && !found {
		err = sql.ErrNoRows
	}
	if err != nil {
		return orNotFound(err, "tag", tag)
	}
	return s.dropTags(ctx, tx, `VALUES (?2, ?3, '')`, repository, tag)
}

// dropTags deletes tags: moves selects the repository and the name of each, and ”.
func (s *core) dropTags(ctx context.Context, tx *sql.Tx, moves string, args ...any) error {
	return s.change(ctx, tx, `DELETE FROM tags WHERE (repository, name) IN (SELECT repository, name FROM moving)`, moves, args...)
}

// moveTags lets tags name manifests: moves selects the repository, the name and the digest for each.
func (s *core) moveTags(ctx context.Context, tx *sql.Tx, moves string, args ...any) error {
	return s.change(ctx, tx, `INSERT INTO tags (repository, name, digest, updated, checked) SELECT repository, name, became, ?1, 0 FROM moving WHERE true
		ON CONFLICT DO UPDATE SET digest = excluded.digest, updated = excluded.updated`, moves, args...)
}

// change records what some tags have named and will name, and runs a statement that changes those of them that name
// something else. The parameters of moves begin with ?2. A thousand tags take no more statements than one.
func (s *core) change(ctx context.Context, tx *sql.Tx, statement, moves string, args ...any) error {
	moving := `WITH moves (repository, name, digest) AS (` + moves + `),
		moving AS MATERIALIZED (SELECT DISTINCT m.repository, m.name, coalesce(t.digest, '') AS was, m.digest AS became
			FROM moves m LEFT JOIN tags t ON t.repository = m.repository AND t.name = m.name WHERE coalesce(t.digest, '') <> m.digest) `
	args = append([]any{sqlite.Nanos(s.now())}, args...)
	for _, statement := range []string{
		`INSERT INTO tag_history (repository, name, was, became, moved, run) SELECT repository, name, was, became, ?1, '' FROM moving`,
		trimHistory,
		statement,
	} {
		n, err := sqlite.Affected(ctx, tx, moving+statement, args...)
		if err != nil {
			return fmt.Errorf("move tags: %w", err)
		}
		if n == 0 && statement != trimHistory {
			break // none names something else
		}
	}
	return nil
}

// trimHistory forgets old moves by pushes: a tag that every build pushes would otherwise grow the database for ever.
var trimHistory = fmt.Sprintf(`DELETE FROM tag_history WHERE id IN (SELECT h.id FROM moving m CROSS JOIN tag_history h
	WHERE h.repository = m.repository AND h.name = m.name AND h.run = '' AND h.id <= (SELECT o.id FROM tag_history o
		WHERE o.repository = m.repository AND o.name = m.name AND o.run = '' ORDER BY o.id DESC LIMIT 1 OFFSET %d))`, pushesKept)

// asJSON is digests as json_each reads them.
func asJSON[S ~string](all []S) string {
	text, _ := json.Marshal(all) // of strings, which cannot fail
	return string(text)
}

// Checked says when the upstream last confirmed a tag; the zero time means never.
func (s *Tags) Checked(ctx context.Context, repo, tag string) (time.Time, error) {
	var checked int64
	err := s.db.Reader().QueryRowContext(ctx, `SELECT t.checked FROM tags t JOIN repositories r ON r.id = t.repository
		WHERE r.name = ? AND t.name = ?`, repo, tag).Scan(&checked)
	return sqlite.Time(checked), orNotFound(err, "tag", tag)
}

// SetChecked records when the upstream confirmed a tag.
func (s *Tags) SetChecked(ctx context.Context, repo, tag string, t time.Time) error {
	return s.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		n, err := sqlite.Affected(ctx, tx, `UPDATE tags SET checked = ?
			WHERE name = ? AND repository = (SELECT id FROM repositories WHERE name = ?)`, sqlite.Nanos(t), tag, repo)
		if err == nil && n == 0 {
			return &NotFoundError{Kind: "tag", Name: tag}
		}
		return err
	})
}
