package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Bounds of what is recorded of one origin.
const (
	maxOrigin = 1 << 10
	maxAbout  = 256 << 10 // a signature is a few kilobytes
)

// Origin is what a tag is a mirror of.
type Origin struct {
	Repository, Tag string
	Digest          digest.Digest // that the tag names
	Origin          string
	About           json.RawMessage
	Recorded        time.Time
}

// runOrigin is a staged origin.
type runOrigin struct {
	repo, tag, origin string
	about             json.RawMessage
}

func (o runOrigin) check() error {
	if err := image.CheckRepository(o.repo); err != nil {
		return err
	}
	if err := image.CheckTag(o.tag); err != nil {
		return err
	}
	if o.origin == "" || len(o.origin) > maxOrigin || len(o.about) > maxAbout || !json.Valid(o.about) {
		return &InvalidError{What: "origin of " + o.repo + ":" + o.tag,
			Reason: fmt.Sprintf("it needs a name of at most %d bytes and a JSON document of at most %d", maxOrigin, maxAbout)}
	}
	return nil
}

// Origins stages what tags of the run are mirrors of, by repository, tag and origin: JSON that is
// returned as it is. A tag may have several origins; one that the run does not set has none.
func (r *Run) Origins(ctx context.Context, of map[string]map[string]map[string]json.RawMessage) error {
	var all []runOrigin
	for repo, tags := range of {
		for tag, origins := range tags {
			for origin, about := range origins {
				o := runOrigin{repo, tag, origin, about}
				if err := o.check(); err != nil {
					return err
				}
				all = append(all, o)
			}
		}
	}
	for batch := range slices.Chunk(all, runBatch) {
		err := r.share(ctx, func(ctx context.Context, tx *sql.Tx) error {
			for _, o := range batch {
				_, err := tx.ExecContext(ctx, `INSERT INTO run_origins (run, repository, tag, origin, about) VALUES (?, ?, ?, ?, ?)
					ON CONFLICT (run, repository, tag, origin) DO UPDATE SET about = excluded.about`, r.id, o.repo, o.tag, o.origin, string(o.about))
				if err != nil {
					return fmt.Errorf("stage the origin of %s:%s: %w", o.repo, o.tag, err)
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

// showOrigins records the origins of the run's tags. One that says the same as before keeps its
// time.
const showOrigins = `INSERT INTO origins (repository, digest, tag, origin, about, recorded)
	SELECT r.id, t.digest, o.tag, o.origin, o.about, ?2 FROM run_origins o CROSS JOIN repositories r CROSS JOIN run_tags t
	WHERE o.run = ?1 AND r.name = o.repository AND t.run = ?1 AND t.repository = o.repository AND t.name = o.tag
	ON CONFLICT (repository, digest, tag, origin) DO UPDATE SET about = excluded.about, recorded = excluded.recorded WHERE origins.about <> excluded.about`

// The rest of a repository and the repositories after it are two statements: in one, no index leads
// past what was listed of the repository, and a listing of many tags reads them for each page.
const (
	listOrigins   = `SELECT r.name, t.name, t.digest, o.origin, o.about, o.recorded ` + originsOfTags
	originsOfTags = `FROM repositories r CROSS JOIN tags t ON t.repository = r.id
		CROSS JOIN origins o ON o.repository = t.repository AND o.digest = t.digest AND o.tag = t.name `
	restOfOrigins = listOrigins + `WHERE r.name = ?1 AND t.name >= ?2 AND (t.name > ?2 OR o.origin > ?3)
		ORDER BY t.name, o.origin LIMIT ?4`
	originsAfter = listOrigins + `WHERE r.name > ?1 ORDER BY r.name, t.name, o.origin LIMIT ?2`
)

// Origins lists at most n origins of tags after one, by repository, tag and origin. Those of tags
// that name another manifest since, or are deleted, do not count.
func (s *Tags) Origins(ctx context.Context, after Origin, n int) ([]Origin, error) {
	var all []Origin
	scan := func(rows *sql.Rows) error {
		var o Origin
		var about string
		var recorded int64
		err := rows.Scan(&o.Repository, &o.Tag, &o.Digest, &o.Origin, &about, &recorded)
		o.About, o.Recorded = json.RawMessage(about), database.Time(recorded)
		all = append(all, o)
		return err
	}
	err := database.Query(ctx, s.db.Reader(), scan, restOfOrigins, after.Repository, after.Tag, after.Origin, n)
	if err == nil && len(all) < n {
		err = database.Query(ctx, s.db.Reader(), scan, originsAfter, after.Repository, n-len(all))
	}
	if err != nil {
		return nil, fmt.Errorf("list origins: %w", err)
	}
	return all, nil
}

// OriginsOf returns the origins that a tag has while it names a manifest.
func (s *Tags) OriginsOf(ctx context.Context, repo, tag string, d digest.Digest) ([]Origin, error) {
	var all []Origin
	scan := func(rows *sql.Rows) error {
		o := Origin{Repository: repo, Tag: tag, Digest: d}
		var about string
		var recorded int64
		err := rows.Scan(&o.Origin, &about, &recorded)
		o.About, o.Recorded = json.RawMessage(about), database.Time(recorded)
		all = append(all, o)
		return err
	}
	err := database.Query(ctx, s.db.Reader(), scan, `SELECT o.origin, o.about, o.recorded FROM repositories r
		CROSS JOIN origins o ON o.repository = r.id WHERE r.name = ? AND o.digest = ? AND o.tag = ?`, repo, d, tag)
	if err != nil {
		return nil, fmt.Errorf("list the origins of %s:%s: %w", repo, tag, err)
	}
	return all, nil
}
