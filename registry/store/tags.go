package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
)

// pushesKept is how many moves of a tag by pushes are remembered. Those by runs all are.
const pushesKept = 50

// TagMove is one change of a tag.
type TagMove struct {
	Was, Became digest.Digest // "" when the tag did not exist, or no longer does
	Run         string        // "" for a push or a delete
	Moved       time.Time
}

// Tags lists the tags of repo after last in byte order, at most n of them (n<0: all), and says whether
// there are more. ErrNotFound: nothing was ever put into repo.
func (s *Store) Tags(ctx context.Context, repo, last string, n int) (tags []string, more bool, err error) {
	if err := checkRepository(repo); err != nil {
		return nil, false, err
	}
	id, err := repositoryID(ctx, s.reader, repo)
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
func (s *Store) page(ctx context.Context, n int, text string, args ...any) (names []string, more bool, err error) {
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
	if err := query(ctx, s.reader, scan, text, append(args, limit)...); err != nil {
		return nil, false, fmt.Errorf("list names: %w", err)
	}
	if n > 0 && len(names) > n {
		return names[:n], true, nil
	}
	return names, false, nil
}

// DeleteTag deletes a tag and leaves what it named.
func (s *Store) DeleteTag(ctx context.Context, repo, tag string) error {
	if err := checkRepository(repo); err != nil {
		return err
	}
	if err := checkTag(tag); err != nil {
		return err
	}
	return s.shareFreeing(ctx, func(ctx context.Context, tx *sql.Tx) error {
		id, err := repositoryID(ctx, tx, repo)
		if err != nil {
			return err
		}
		return s.dropTag(ctx, tx, id, tag)
	})
}

// untag deletes the tags of a repository that name d.
func (s *Store) untag(ctx context.Context, tx *sql.Tx, repository int64, d digest.Digest) error {
	var tags []string
	scan := func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		tags = append(tags, name)
		return err
	}
	if err := query(ctx, tx, scan, `SELECT name FROM tags WHERE repository = ? AND digest = ?`, repository, d); err != nil {
		return fmt.Errorf("find tags of %s: %w", d, err)
	}
	for _, tag := range tags {
		if err := s.dropTag(ctx, tx, repository, tag); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) dropTag(ctx context.Context, tx *sql.Tx, repository int64, tag string) error {
	var was digest.Digest
	err := tx.QueryRowContext(ctx, `DELETE FROM tags WHERE repository = ? AND name = ? RETURNING digest`, repository, tag).Scan(&was)
	if err != nil {
		return orNotFound(err, "tag", tag)
	}
	return s.recordMove(ctx, tx, repository, tag, TagMove{Was: was})
}

// moveTag lets a tag name a manifest of its repository, and records what it named before.
func (s *Store) moveTag(ctx context.Context, tx *sql.Tx, repository int64, tag string, to digest.Digest, run string) error {
	var was digest.Digest
	err := tx.QueryRowContext(ctx, `SELECT digest FROM tags WHERE repository = ? AND name = ?`, repository, tag).Scan(&was)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("move tag %s: %w", tag, err)
	}
	if was == to {
		return nil
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO tags (repository, name, digest, updated, checked) VALUES (?, ?, ?, ?, 0)
		ON CONFLICT DO UPDATE SET digest = excluded.digest, updated = excluded.updated`,
		repository, tag, to, nanos(s.now()))
	if err != nil {
		return fmt.Errorf("move tag %s: %w", tag, err)
	}
	return s.recordMove(ctx, tx, repository, tag, TagMove{Was: was, Became: to, Run: run})
}

func (s *Store) recordMove(ctx context.Context, tx *sql.Tx, repository int64, tag string, m TagMove) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO tag_history (repository, name, was, became, moved, run) VALUES (?, ?, ?, ?, ?, ?)`,
		repository, tag, m.Was, m.Became, nanos(s.now()), m.Run)
	if err != nil {
		return fmt.Errorf("record move of tag %s: %w", tag, err)
	}
	// A tag that every build pushes would otherwise grow the database for ever.
	_, err = tx.ExecContext(ctx, `DELETE FROM tag_history WHERE repository = ?1 AND name = ?2 AND run = '' AND id <= (
		SELECT id FROM tag_history WHERE repository = ?1 AND name = ?2 AND run = '' ORDER BY id DESC LIMIT 1 OFFSET ?3)`,
		repository, tag, pushesKept)
	if err != nil {
		return fmt.Errorf("trim history of tag %s: %w", tag, err)
	}
	return nil
}

// TagHistory lists the moves of a tag, the latest first. It is empty for a tag that never was.
func (s *Store) TagHistory(ctx context.Context, repo, tag string) ([]TagMove, error) {
	if err := checkRepository(repo); err != nil {
		return nil, err
	}
	var moves []TagMove
	scan := func(rows *sql.Rows) error {
		var m TagMove
		var moved int64
		err := rows.Scan(&m.Was, &m.Became, &m.Run, &moved)
		m.Moved = fromNanos(moved)
		moves = append(moves, m)
		return err
	}
	err := query(ctx, s.reader, scan, `SELECT h.was, h.became, h.run, h.moved FROM tag_history h
		JOIN repositories r ON r.id = h.repository WHERE r.name = ? AND h.name = ? ORDER BY h.id DESC`, repo, tag)
	if err != nil {
		return nil, fmt.Errorf("read history of tag %s: %w", tag, err)
	}
	return moves, nil
}

// TagChecked says when the upstream last confirmed a tag; the zero time means never.
func (s *Store) TagChecked(ctx context.Context, repo, tag string) (time.Time, error) {
	var checked int64
	err := s.reader.QueryRowContext(ctx, `SELECT t.checked FROM tags t JOIN repositories r ON r.id = t.repository
		WHERE r.name = ? AND t.name = ?`, repo, tag).Scan(&checked)
	return fromNanos(checked), orNotFound(err, "tag", tag)
}

// SetTagChecked records when the upstream confirmed a tag.
func (s *Store) SetTagChecked(ctx context.Context, repo, tag string, t time.Time) error {
	return s.share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		n, err := affected(ctx, tx, `UPDATE tags SET checked = ?
			WHERE name = ? AND repository = (SELECT id FROM repositories WHERE name = ?)`, nanos(t), tag, repo)
		if err == nil && n == 0 {
			return &NotFoundError{Kind: "tag", Name: tag}
		}
		return err
	})
}
