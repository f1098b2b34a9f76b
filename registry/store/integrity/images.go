package integrity

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

const imagesListed = 100

// BlobImages yields what cannot be pulled whole without a blob, as repository:tag, or repository@digest for
// what no tag leads to; a hundred at most.
func (c *Checker) BlobImages(ctx context.Context, d digest.Digest, yield func(image string) error) error {
	var images []string
	scan := func(rows *sql.Rows) error {
		var image string
		err := rows.Scan(&image)
		images = append(images, image)
		return err
	}
	err := sqlite.Query(ctx, c.DB.Reader(), scan, `WITH RECURSIVE up (digest) AS (
			SELECT manifest FROM manifest_refs WHERE digest = ?1
			UNION SELECT f.manifest FROM up JOIN manifest_refs f ON f.digest = up.digest AND f.kind = 'child')
		SELECT r.name || ':' || t.name AS image FROM up
			JOIN repository_manifests rm ON rm.digest = up.digest
			JOIN repositories r ON r.id = rm.repository
			JOIN tags t ON t.repository = rm.repository AND t.digest = rm.digest
		UNION
		SELECT r.name || '@' || up.digest FROM up
			JOIN repository_manifests rm ON rm.digest = up.digest
			JOIN repositories r ON r.id = rm.repository
			WHERE NOT EXISTS (SELECT 1 FROM tags t WHERE t.repository = rm.repository AND t.digest = rm.digest)
			AND NOT EXISTS (SELECT 1 FROM manifest_refs f
				JOIN repository_manifests p ON p.digest = f.manifest AND p.repository = rm.repository
				WHERE f.digest = up.digest AND f.kind = 'child')
		ORDER BY image LIMIT ?2`, d, imagesListed)
	if err != nil {
		return fmt.Errorf("list images of blob %s: %w", d, err)
	}
	for _, image := range images {
		if err := yield(image); err != nil {
			return err
		}
	}
	return nil
}

// BlobSources yields where a blob may be fetched again, also one in quarantine: the sources of the repositories
// that have it or a manifest that needs it, the latest first.
func (c *Checker) BlobSources(ctx context.Context, d digest.Digest, yield func(registry, path string) error) error {
	if err := image.CheckDigest(d); err != nil {
		return err
	}
	type source struct{ registry, path string }
	var found []source
	scan := func(rows *sql.Rows) error {
		var f source
		err := rows.Scan(&f.registry, &f.path)
		found = append(found, f)
		return err
	}
	err := sqlite.Query(ctx, c.DB.Reader(), scan, `SELECT src.registry, src.path FROM sources src
		JOIN repositories r ON r.name = src.repository
		WHERE r.id IN (
			SELECT repository FROM repository_blobs WHERE digest = ?1
			UNION SELECT repository FROM quarantine_links WHERE digest = ?1
			UNION SELECT rm.repository FROM manifest_refs f JOIN repository_manifests rm ON rm.digest = f.manifest WHERE f.digest = ?1)
		GROUP BY src.registry, src.path ORDER BY max(src.seen) DESC, src.registry, src.path`, d)
	if err != nil {
		return fmt.Errorf("list sources of blob %s: %w", d, err)
	}
	for _, f := range found {
		if err := yield(f.registry, f.path); err != nil {
			return err
		}
	}
	return nil
}
