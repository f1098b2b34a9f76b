package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// sourceFresh is how long a source counts as recorded: pull-through names its source with everything it
// fetches, and a transaction each time would cost more than it tells.
const sourceFresh = 24 * time.Hour

// Source records, by repository, that what the run puts there comes from each of some names, such as
// quay.io/openshift-release-dev/ocp-release. It is what scrub asks when a blob is damaged, and is kept also when the run
// is aborted.
func (r *Run) Source(ctx context.Context, from map[string][]string) error {
	var all []source
	for repo, names := range from {
		for _, name := range names {
			registry, path, _ := strings.Cut(name, "/")
			all = append(all, source{repo, registry, path})
		}
	}
	return r.store.recordSources(ctx, all, false)
}

// RecordSource records that pull-through fetched something for repo from path on registry (host[:port]).
func (s *Store) RecordSource(ctx context.Context, repo, registry, path string) error {
	return s.recordSources(ctx, []source{{repo, registry, path}}, true)
}

type source struct{ repo, registry, path string }

func (s source) check() error {
	if s.registry == "" || s.path == "" {
		return &InvalidError{What: "source", Why: "both a registry and a repository on it are needed"}
	}
	return image.CheckRepository(s.repo)
}

func (s *Store) recordSources(ctx context.Context, all []source, pulled bool) error {
	now := s.now()
	var unknown []source
	for _, from := range all {
		if err := from.check(); err != nil {
			return err
		}
		fresh, err := sqlite.Exists(ctx, s.db.Reader(), `SELECT 1 FROM sources
			WHERE repository = ? AND registry = ? AND path = ? AND pulled >= ? AND seen > ?`,
			from.repo, from.registry, from.path, pulled, sqlite.Nanos(now.Add(-sourceFresh)))
		if err != nil {
			return fmt.Errorf("record source of %s: %w", from.repo, err)
		}
		if !fresh {
			unknown = append(unknown, from)
		}
	}
	for batch := range slices.Chunk(unknown, runBatch) {
		err := s.db.Write(ctx, func(tx *sql.Tx) error {
			for _, from := range batch {
				_, err := tx.ExecContext(ctx, `INSERT INTO sources (repository, registry, path, pulled, seen) VALUES (?, ?, ?, ?, ?)
					ON CONFLICT DO UPDATE SET pulled = max(pulled, excluded.pulled), seen = excluded.seen`,
					from.repo, from.registry, from.path, pulled, sqlite.Nanos(now))
				if err != nil {
					return fmt.Errorf("record source of %s: %w", from.repo, err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// BlobSources lists where a blob may be had again, also one in quarantine: the sources of the repositories
// that hold it or a manifest made of it, the latest first.
func (s *Store) BlobSources(ctx context.Context, d digest.Digest, yield func(registry, path string) error) error {
	if err := image.CheckDigest(d); err != nil {
		return err
	}
	var found []source
	scan := func(rows *sql.Rows) error {
		var f source
		err := rows.Scan(&f.registry, &f.path)
		found = append(found, f)
		return err
	}
	err := sqlite.Query(ctx, s.db.Reader(), scan, `SELECT src.registry, src.path FROM sources src
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
