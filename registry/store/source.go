package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
)

// sourceFresh is how long a source counts as recorded: pull-through names its source with everything it
// fetches, and a transaction each time would cost more than it tells.
const sourceFresh = 24 * time.Hour

// Source records that what the run puts into repo comes from path on registry (host[:port]). It is what
// scrub asks when a blob is damaged, and is kept also when the run is aborted.
func (r *Run) Source(ctx context.Context, repo, registry, path string) error {
	return r.store.recordSource(ctx, repo, registry, path, false)
}

// RecordSource records that pull-through fetched something for repo from path on registry (host[:port]).
func (s *Store) RecordSource(ctx context.Context, repo, registry, path string) error {
	return s.recordSource(ctx, repo, registry, path, true)
}

func (s *Store) recordSource(ctx context.Context, repo, registry, path string, pulled bool) error {
	if err := checkRepository(repo); err != nil {
		return err
	}
	if registry == "" || path == "" {
		return &InvalidError{What: "source", Why: "both a registry and a repository on it are needed"}
	}
	now := s.now()
	fresh, err := exists(ctx, s.reader, `SELECT 1 FROM sources
		WHERE repository = ? AND registry = ? AND path = ? AND pulled >= ? AND seen > ?`,
		repo, registry, path, pulled, nanos(now.Add(-sourceFresh)))
	if err != nil {
		return fmt.Errorf("record source of %s: %w", repo, err)
	}
	if fresh {
		return nil
	}
	return s.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO sources (repository, registry, path, pulled, seen) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET pulled = max(pulled, excluded.pulled), seen = excluded.seen`,
			repo, registry, path, pulled, nanos(now))
		if err != nil {
			return fmt.Errorf("record source of %s: %w", repo, err)
		}
		return nil
	})
}

// BlobSources lists where a blob may be had again, also one in quarantine: the sources of the repositories
// that hold it or a manifest made of it, the latest first.
func (s *Store) BlobSources(ctx context.Context, d digest.Digest, yield func(registry, path string) error) error {
	if err := checkDigest(d); err != nil {
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
	err := query(ctx, s.reader, scan, `SELECT src.registry, src.path FROM sources src
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
