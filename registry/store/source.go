package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

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
func (s *Blobs) RecordSource(ctx context.Context, repo, registry, path string) error {
	return s.recordSources(ctx, []source{{repo, registry, path}}, true)
}

type source struct{ repo, registry, path string }

func (s source) check() error {
	if s.registry == "" || s.path == "" {
		return &InvalidError{What: "source", Reason: "both a registry and a repository on it are needed"}
	}
	return image.CheckRepository(s.repo)
}

func (s *core) recordSources(ctx context.Context, all []source, pulled bool) error {
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
