package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// Needed lists the blobs after last, at most n of them, that a manifest of a repository refers to, and reports whether there
// are more. A collection leaves those, so that a mirror may leave them out.
func (s *Blobs) Needed(ctx context.Context, last string, n int) (digests []string, more bool, err error) {
	return s.page(ctx, n, `SELECT digest FROM blobs b WHERE digest > ?
		AND EXISTS (SELECT 1 FROM manifest_refs r JOIN repository_manifests rm ON rm.digest = r.manifest WHERE r.digest = b.digest)
		ORDER BY digest LIMIT ?`, last)
}

// Tag is a tag of a repository.
type Tag struct {
	Repository, Name string
	Digest           digest.Digest
}

// All lists the tags of all repositories after one, at most n of them.
func (s *Tags) All(ctx context.Context, after Tag, n int) (tags []Tag, err error) {
	scan := func(rows *sql.Rows) error {
		var t Tag
		err := rows.Scan(&t.Repository, &t.Name, &t.Digest)
		tags = append(tags, t)
		return err
	}
	// The repositories are asked for one by one, along the index of their names.
	err = sqlite.Query(ctx, s.db.Reader(), scan, `SELECT r.name, t.name, t.digest FROM repositories r CROSS JOIN tags t ON t.repository = r.id
		WHERE r.name >= ?1 AND (r.name > ?1 OR t.name > ?2) ORDER BY r.name, t.name LIMIT ?3`, after.Repository, after.Name, n)
	if err != nil {
		return nil, fmt.Errorf("list tags: %w", err)
	}
	return tags, nil
}
