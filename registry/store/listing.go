package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Lists for people, a page at a time. A page is found by the name that it begins after, so that the
// last page costs what the first does; a search reads names alone until the page is full.

// tagsCounted bounds the count of a repository's tags.
const tagsCounted = 100_000

// Find lists repositories as Repositories does, of those whose names contain a text.
func (s *Store) Find(ctx context.Context, text, last string, n int) (names []string, more bool, err error) {
	return s.page(ctx, n, `SELECT name FROM repositories r WHERE name > ? AND instr(name, ?) > 0
		AND EXISTS (SELECT 1 FROM repository_manifests rm WHERE rm.repository = r.id)
		ORDER BY name LIMIT ?`, last, strings.ToLower(text))
}

// FindAmong is Find among the repositories that match one of some patterns. It seeks those, and does not read
// the names between them.
func (s *Store) FindAmong(ctx context.Context, patterns []string, text, last string, n int) (names []string, more bool, err error) {
	names = []string{}
	if n == 0 {
		return names, false, nil
	}
	for _, r := range image.Ranges(patterns) {
		from := max(r.From, last+"\x00")
		if from >= r.Before {
			continue
		}
		some, err := database.Column[string](ctx, s.db.Reader(), `SELECT name FROM repositories r WHERE name >= ? AND name < ? AND instr(name, ?) > 0
			AND EXISTS (SELECT 1 FROM repository_manifests rm WHERE rm.repository = r.id)
			ORDER BY name LIMIT ?`, from, r.Before, strings.ToLower(text), n+1-len(names))
		if err != nil {
			return nil, false, fmt.Errorf("list names: %w", err)
		}
		if names = append(names, some...); len(names) > n {
			return names[:n], true, nil
		}
	}
	return names, false, nil
}

// Count counts the tags of some repositories, up to 100,000 of each.
func (s *Tags) Count(ctx context.Context, repos []string) (map[string]int, error) {
	all := map[string]int{}
	if len(repos) == 0 {
		return all, nil
	}
	scan := func(rows *sql.Rows) error {
		var name string
		var n int
		err := rows.Scan(&name, &n)
		all[name] = n
		return err
	}
	err := database.Query(ctx, s.db.Reader(), scan, `SELECT r.name, (SELECT count(*) FROM (SELECT 1 FROM tags t WHERE t.repository = r.id LIMIT ?2) few)
		FROM json_each(?1) n CROSS JOIN repositories r WHERE r.name = n.value`, asJSON(repos), tagsCounted)
	if err != nil {
		return nil, fmt.Errorf("count tags: %w", err)
	}
	return all, nil
}

// TagEntry is a tag and the manifest that it names.
type TagEntry struct {
	Name                    string
	Digest                  digest.Digest
	MediaType, ArtifactType string
	Updated                 time.Time // when it was pushed or moved
	Checked                 time.Time // when an upstream last confirmed it; zero for a tag that was pushed
}

// Find lists at most n tags of repo after last whose names contain a text in any case, sorted, and
// whether there are more. ErrNotFound: nothing was ever pushed to repo.
func (s *Tags) Find(ctx context.Context, repo, text, last string, n int) (page []TagEntry, more bool, err error) {
	if err := image.CheckRepository(repo); err != nil {
		return nil, false, err
	}
	id, err := repositoryID(ctx, s.db.Reader(), repo)
	if err != nil {
		return nil, false, err
	}
	scan := func(rows *sql.Rows) error {
		var e TagEntry
		var updated, checked int64
		err := rows.Scan(&e.Name, &e.Digest, &e.MediaType, &e.ArtifactType, &updated, &checked)
		e.Updated, e.Checked = database.Time(updated), database.Time(checked)
		page = append(page, e)
		return err
	}
	err = database.Query(ctx, s.db.Reader(), scan, `SELECT t.name, t.digest, CASE m.media_type WHEN '' THEN l.media_type ELSE m.media_type END, m.artifact_type, t.updated, t.checked
		FROM tags t CROSS JOIN repository_manifests l CROSS JOIN manifests m
		WHERE t.repository = ?1 AND t.name > ?2 AND instr(lower(t.name), ?3) > 0
		AND l.repository = t.repository AND l.digest = t.digest AND m.digest = t.digest
		ORDER BY t.name LIMIT ?4`, id, last, strings.ToLower(text), n+1)
	if err != nil {
		return nil, false, fmt.Errorf("list tags of %s: %w", repo, err)
	}
	if len(page) > n {
		return page[:n], true, nil
	}
	return page, false, nil
}

// Size is how much of an image a repository has: of its manifests and blobs, as far as its manifests
// exist there, and the bytes of the blobs.
type Size struct {
	Parts, Held int
	Bytes       int64
}

// Sizes returns how much of some images a repository has. An image may have many thousands of parts, so
// that it returns, when ctx ends before all are counted, those that are.
func (s *Manifests) Sizes(ctx context.Context, repo string, images []digest.Digest) (map[digest.Digest]Size, error) {
	id, err := repositoryID(ctx, s.db.Reader(), repo)
	if err != nil {
		return nil, err
	}
	all := map[digest.Digest]Size{}
	for _, d := range images {
		if _, known := all[d]; known {
			continue
		}
		var n Size
		err := s.db.Reader().QueryRowContext(ctx, countParts, id, d).Scan(&n.Parts, &n.Held, &n.Bytes)
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("count the parts of %s: %w", d, err)
		}
		all[d] = n
	}
	return all, nil
}

// sharedMost bounds how many images a blob is looked for in.
const sharedMost = 1000

// The images of the repository ?3, or with 0 of all, besides ?1 that refer to the blobs ?2.
const selectShared = `SELECT d.value, (SELECT count(*) FROM (
		SELECT DISTINCT f.manifest FROM manifest_refs f WHERE f.digest = d.value AND f.manifest <> ?1 LIMIT ?4) o
		WHERE EXISTS (SELECT 1 FROM repository_manifests l WHERE l.digest = o.manifest AND (?3 = 0 OR l.repository = ?3)))
	FROM json_each(?2) d`

// Shared counts for each of some blobs the images besides one that refer to it, up to 1000: in repo, or
// with "" anywhere.
func (s *Blobs) Shared(ctx context.Context, repo string, except digest.Digest, blobs []digest.Digest) (map[digest.Digest]int, error) {
	var id int64
	if repo != "" {
		var err error
		if id, err = repositoryID(ctx, s.db.Reader(), repo); err != nil {
			return nil, err
		}
	}
	all := map[digest.Digest]int{}
	if len(blobs) == 0 {
		return all, nil
	}
	scan := func(rows *sql.Rows) error {
		var d digest.Digest
		var n int
		err := rows.Scan(&d, &n)
		all[d] = n
		return err
	}
	if err := database.Query(ctx, s.db.Reader(), scan, selectShared, except, asJSON(blobs), id, sharedMost); err != nil {
		return nil, fmt.Errorf("count the images that share a layer: %w", err)
	}
	return all, nil
}

// Held returns which of some manifests and blobs exist in a repository.
func (s *Manifests) Held(ctx context.Context, repo string, some []digest.Digest) (map[digest.Digest]bool, error) {
	id, err := repositoryID(ctx, s.db.Reader(), repo)
	if err != nil {
		return nil, err
	}
	found, err := listDigests(ctx, s.db.Reader(), `SELECT d.value FROM json_each(?2) d
		WHERE EXISTS (SELECT 1 FROM repository_manifests l WHERE l.repository = ?1 AND l.digest = d.value)
		OR EXISTS (SELECT 1 FROM repository_blobs l CROSS JOIN blobs b WHERE l.repository = ?1 AND l.digest = d.value AND b.digest = d.value)`, id, some)
	if err != nil {
		return nil, fmt.Errorf("look for the parts of an image: %w", err)
	}
	all := map[digest.Digest]bool{}
	for _, d := range found {
		all[d] = true
	}
	return all, nil
}

// PinnedHere reports whether an administrator has pinned a manifest of a repository.
func (s *Manifests) PinnedHere(ctx context.Context, repo string, d digest.Digest) (bool, error) {
	pinned, err := database.Exists(ctx, s.db.Reader(), `SELECT 1 FROM repositories r CROSS JOIN repository_manifests l
		WHERE r.name = ? AND l.repository = r.id AND l.digest = ? AND l.pulled = 2`, repo, d)
	if err != nil {
		return false, fmt.Errorf("look for a pin of %s: %w", d, err)
	}
	return pinned, nil
}

var (
	imagesAfter    = listImages(`true`)
	unreachedAfter = listImages(`l.pulled <> 1 AND ` + unreached("r.id", "l.digest"))
)

// listImages lists images, one repository after the other, along the index of their names.
func listImages(which string) string {
	return `SELECT r.name, l.digest FROM repositories r CROSS JOIN repository_manifests l
		WHERE l.repository = r.id AND r.name >= ?1 AND (r.name > ?1 OR l.digest > ?2) AND ` + which + ` ORDER BY r.name, l.digest LIMIT ?3`
}

// All lists at most n manifests of all repositories after one.
func (s *Manifests) All(ctx context.Context, after Image, n int) ([]Image, error) {
	return s.list(ctx, imagesAfter, after, n)
}

// Unreached lists, as All does, the pushed manifests that are pulled by their digest only: neither a tag, nor an index,
// nor a manifest that they belong to leads to them.
func (s *Manifests) Unreached(ctx context.Context, after Image, n int) ([]Image, error) {
	return s.list(ctx, unreachedAfter, after, n)
}

func (s *Manifests) list(ctx context.Context, query string, after Image, n int) ([]Image, error) {
	columns := func(i *Image) []any { return []any{&i.Repository, &i.Digest} }
	images, err := database.List(ctx, s.db.Reader(), columns, query, after.Repository, after.Digest, n)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	return images, nil
}
