package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// What attached clusters need is neither deleted nor evicted: keeping alone decides, for deletes by
// digest and by tag, what goes with a deleted index, rollbacks, evictions and collections of
// untagged images. Package registry/retain decides which manifests these are.

// Cluster is a cluster that is attached to the registry.
type Cluster struct {
	ID, Name string
	// User is the user that may change its facts, "" for none but administrators.
	User    string
	Facts   json.RawMessage // of package registry/retain
	Updated time.Time
}

// String names the cluster for people.
func (c Cluster) String() string {
	if c.Name == "" {
		return c.ID
	}
	return c.Name + " (" + c.ID + ")"
}

// KeptError reports that an attached cluster needs an image, which can neither be deleted nor lose a tag.
type KeptError struct {
	Image    string // repository:tag or repository@digest
	Clusters []Cluster
}

func (e *KeptError) Error() string {
	return fmt.Sprintf("%s is needed by %s, which runs it or may roll back to it", e.Image, ClusterNames(e.Clusters))
}

// namedClusters is how many clusters a message names.
const namedClusters = 3

// ClusterNames names the first of some clusters.
func ClusterNames(all []Cluster) string {
	var names []string
	for i, c := range all {
		if i == namedClusters {
			names = append(names, fmt.Sprintf("%d more", len(all)-namedClusters))
			break
		}
		names = append(names, c.String())
	}
	word := "cluster "
	if len(all) > 1 {
		word = "clusters "
	}
	return word + strings.Join(names, ", ")
}

// keeping selects the clusters that need the manifest x of a repository: by itself, by an index above
// it, or by what it belongs to. x is a column or a parameter.
func keeping(repository, x string) string {
	return `WITH RECURSIVE above (digest) AS (SELECT ` + x + `
		UNION SELECT digest FROM (` + subjects(repository, x) + `) subjects
		UNION SELECT f.manifest FROM above a CROSS JOIN manifest_refs f CROSS JOIN repository_manifests p
			WHERE f.digest = a.digest AND f.kind = 'child' AND p.repository = ` + repository + ` AND p.digest = f.manifest)
		SELECT k.cluster FROM above a CROSS JOIN cluster_manifests k WHERE k.digest = a.digest`
}

var (
	selectKeeping = keeping("?1", "?2")

	// keptLinks begins with the links of what clusters need and of all that is below it.
	keptLinks = `kept (repository, digest) AS MATERIALIZED (
		SELECT p.repository, p.digest FROM cluster_manifests k CROSS JOIN repository_manifests p ON p.digest = k.digest
		UNION SELECT p.repository, p.digest FROM kept k CROSS JOIN manifest_refs f CROSS JOIN repository_manifests p
			WHERE f.manifest = k.digest AND f.kind = 'child' AND p.repository = k.repository AND p.digest = f.digest)`
)

// checkKept returns a *KeptError if an attached cluster needs a manifest.
func checkKept(ctx context.Context, q database.Querier, repository int64, d digest.Digest, name string) error {
	all, err := listKeeping(ctx, q, repository, d)
	if err != nil {
		return fmt.Errorf("look for clusters that need %s: %w", name, err)
	}
	if len(all) == 0 {
		return nil
	}
	return hint.New(&KeptError{name, all}, "appliance pin cluster list shows what is attached; one that is gone: appliance pin cluster remove "+all[0].ID)
}

// Keeping returns the attached clusters that need a manifest.
func (s *Clusters) Keeping(ctx context.Context, repo string, d digest.Digest) ([]Cluster, error) {
	id, err := repositoryID(ctx, s.db.Reader(), repo)
	if err != nil {
		return nil, err
	}
	return listKeeping(ctx, s.db.Reader(), id, d)
}

// listKeeping lists the clusters that need a manifest by their ids, those that ClusterNames names with
// their names: a fleet of a thousand has megabytes of rows. One that is detached meanwhile is left out.
func listKeeping(ctx context.Context, q database.Querier, repository int64, d digest.Digest) (all []Cluster, err error) {
	ids, err := database.Column[string](ctx, q, selectKeeping, repository, d)
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		c := Cluster{ID: id}
		if len(all) < namedClusters && err == nil {
			err = q.QueryRowContext(ctx, `SELECT name FROM clusters WHERE id = ?`, id).Scan(&c.Name)
			if errors.Is(err, sql.ErrNoRows) {
				err = nil
				continue
			}
		}
		all = append(all, c)
	}
	return all, err
}

const (
	selectCluster = `SELECT id, name, "user", facts, updated FROM clusters`
	maxFacts      = 4 << 20 // bytes of the facts of a cluster
	maxNeeds      = 50_000  // manifests that a cluster needs
)

func (c *Cluster) columns(updated *int64) []any {
	return []any{&c.ID, &c.Name, &c.User, (*[]byte)(&c.Facts), updated}
}

// List lists the attached clusters by name.
func (s *Clusters) List(ctx context.Context) ([]Cluster, error) {
	all := []Cluster{}
	scan := func(rows *sql.Rows) error {
		var c Cluster
		var updated int64
		err := rows.Scan(c.columns(&updated)...)
		c.Updated = database.Time(updated)
		all = append(all, c)
		return err
	}
	if err := database.Query(ctx, s.db.Reader(), scan, selectCluster+` ORDER BY name, id`); err != nil {
		return nil, fmt.Errorf("list clusters: %w", err)
	}
	return all, nil
}

// Names lists the attached clusters by name, without their facts, of which a fleet has tens of megabytes.
func (s *Clusters) Names(ctx context.Context) ([]Cluster, error) {
	columns := func(c *Cluster) []any { return []any{&c.ID, &c.Name, &c.User} }
	all, err := database.List(ctx, s.db.Reader(), columns, `SELECT id, name, "user" FROM clusters ORDER BY name, id`)
	if err != nil {
		return nil, fmt.Errorf("list clusters: %w", err)
	}
	return all, nil
}

// Get returns an attached cluster.
func (s *Clusters) Get(ctx context.Context, id string) (c Cluster, err error) {
	var updated int64
	err = s.db.Reader().QueryRowContext(ctx, selectCluster+` WHERE id = ?`, id).Scan(c.columns(&updated)...)
	c.Updated = database.Time(updated)
	return c, orNotFound(err, "cluster", image.Quote(id))
}

// Put attaches a cluster, or replaces what is known of it. What it needs is as it was until Keep.
func (s *Clusters) Put(ctx context.Context, c Cluster) error {
	if len(c.Facts) > maxFacts {
		return &InvalidError{What: "cluster", Reason: fmt.Sprintf("its facts have %d bytes, more than %d", len(c.Facts), maxFacts)}
	}
	err := s.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO clusters (id, name, "user", facts, updated) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET name = excluded.name, "user" = excluded."user", facts = excluded.facts, updated = excluded.updated`,
			c.ID, c.Name, c.User, string(c.Facts), database.Nanos(s.now()))
		return err
	})
	if err != nil {
		return fmt.Errorf("attach cluster %s: %w", c.ID, err)
	}
	return nil
}

// Keep replaces the manifests that a cluster needs. They need not exist.
func (s *Clusters) Keep(ctx context.Context, id string, needs []digest.Digest) error {
	if len(needs) > maxNeeds {
		return &InvalidError{What: "cluster", Reason: fmt.Sprintf("it needs %d images, more than %d", len(needs), maxNeeds)}
	}
	has, err := database.Column[digest.Digest](ctx, s.db.Reader(), `SELECT digest FROM cluster_manifests WHERE cluster = ? ORDER BY digest`, id)
	if err != nil {
		return fmt.Errorf("read what cluster %s needs: %w", id, err)
	}
	needs = slices.Compact(slices.Sorted(slices.Values(needs)))
	if slices.Equal(has, needs) {
		return nil // as after most changes of the store
	}
	err = s.db.ShareFreeing(ctx, func(ctx context.Context, tx *sql.Tx) error {
		return keep(ctx, tx, id, asJSON(append([]digest.Digest{}, needs...))) // not null
	})
	if err != nil {
		return fmt.Errorf("keep what cluster %s needs: %w", id, err)
	}
	return nil
}

// keep replaces the manifests that a cluster needs by those of a JSON array.
func keep(ctx context.Context, tx *sql.Tx, id, all string) error {
	for _, text := range []string{
		`DELETE FROM cluster_manifests WHERE cluster = ?1 AND digest NOT IN (SELECT value FROM json_each(?2))`,
		`INSERT INTO cluster_manifests (digest, cluster) SELECT n.value, c.id FROM clusters c CROSS JOIN json_each(?2) n
			WHERE c.id = ?1 ON CONFLICT DO NOTHING`,
		`UPDATE clusters SET updated = updated WHERE id = ?1 AND ?2 = ?2`, // for the feed of changes
	} {
		if _, err := tx.ExecContext(ctx, text, id, all); err != nil {
			return err
		}
	}
	return nil
}

// Count counts the manifests that a cluster needs, and those of them that exist.
func (s *Clusters) Count(ctx context.Context, id string) (all, held int, err error) {
	err = s.db.Reader().QueryRowContext(ctx, `SELECT count(*), count(m.digest) FROM cluster_manifests k
		LEFT JOIN manifests m ON m.digest = k.digest WHERE k.cluster = ?`, id).Scan(&all, &held)
	if err != nil {
		return 0, 0, fmt.Errorf("count what cluster %s needs: %w", id, err)
	}
	return all, held, nil
}

// Delete detaches a cluster. What it needs may go.
func (s *Clusters) Delete(ctx context.Context, id string) error {
	return s.db.ShareFreeing(ctx, func(ctx context.Context, tx *sql.Tx) error {
		n, err := database.Affected(ctx, tx, `DELETE FROM clusters WHERE id = ?`, id)
		if err == nil && n == 0 {
			err = sql.ErrNoRows
		}
		return orNotFound(err, "cluster", image.Quote(id))
	})
}
