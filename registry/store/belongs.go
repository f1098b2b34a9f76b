package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Referrers belong to a manifest, by subject or by a tag made of its digest (sha256-<hex> for an
// index of referrers, and .sig, .att and .sbom of cosign). They are deleted and evicted with the
// manifest, and not with an index that lists them while it exists. This file alone defines what
// belongs to a manifest.

// belongingTags are the tags, made of a digest x, that belong to x. A tag cannot have all of a
// sha512.
func belongingTags(x string) string {
	base := `replace(substr(` + x + `, 1, 71), ':', '-')`
	return `(` + base + `, ` + base + ` || '.sig', ` + base + ` || '.att', ` + base + ` || '.sbom')`
}

// belongings selects the digests that belong to the manifest x of a repository.
func belongings(repository, x string) string { return belongingsFrom("", repository, x, "") }

// belongingsFrom is belongings for all x of a FROM clause, with other columns in also.
func belongingsFrom(from, repository, x, also string) string {
	return `SELECT m.digest` + also + ` FROM ` + from + ` manifests m CROSS JOIN repository_manifests p
			WHERE m.subject = ` + x + ` AND m.subject <> '' AND p.repository = ` + repository + ` AND p.digest = m.digest
		UNION SELECT t.digest` + also + ` FROM ` + from + ` tags t WHERE t.repository = ` + repository + ` AND t.name IN ` + belongingTags(x) + ` AND t.digest <> ` + x
}

// subjects selects the links of the manifests in a repository that the manifest x belongs to.
func subjects(repository, x string) string {
	named := `substr(t.name, 1, 6) || ':' || substr(t.name, 8, 64)` // all of a sha256, the beginning of a sha512
	return `SELECT p.digest, p.pulled FROM manifests m CROSS JOIN repository_manifests p
			WHERE m.digest = ` + x + ` AND m.subject <> '' AND p.repository = ` + repository + ` AND p.digest = m.subject
		UNION SELECT p.digest, p.pulled FROM tags t CROSS JOIN repository_manifests p
			WHERE t.repository = ` + repository + ` AND t.digest = ` + x + ` AND t.name GLOB 'sha[25][51][62]-*'
			AND substr(t.name, 72) IN ('', '.sig', '.att', '.sbom')
			AND p.repository = t.repository AND p.digest >= ` + named + ` AND p.digest < ` + named + ` || 'g' AND p.digest <> ` + x
}

// unreached is the condition that in a repository neither a tag, nor an index, nor a manifest that it belongs to leads
// to the manifest x.
func unreached(repository, x string) string {
	return `NOT EXISTS (SELECT 1 FROM tags t WHERE t.repository = ` + repository + ` AND t.digest = ` + x + `)
		AND NOT EXISTS (SELECT 1 FROM manifest_refs f CROSS JOIN repository_manifests p
			WHERE f.digest = ` + x + ` AND f.kind = 'child' AND p.repository = ` + repository + ` AND p.digest = f.manifest)
		AND NOT EXISTS (` + subjects(repository, x) + `)`
}

var (
	// Of the manifests ?2, a JSON array, in the repository ?1: the manifests that belong to them,
	// each with its subject, and their children. The scan of one array does not grow with the
	// store.
	allBelongings = belongingsFrom("json_each(?2) d CROSS JOIN", "?1", "d.value", ", d.value")
	allChildren   = `SELECT DISTINCT f.digest FROM json_each(?2) d CROSS JOIN manifest_refs f CROSS JOIN repository_manifests p
		WHERE f.manifest = d.value AND f.kind = 'child' AND p.repository = ?1 AND p.digest = f.digest`
	allLinked = `SELECT d.value FROM json_each(?2) d CROSS JOIN repository_manifests p WHERE p.repository = ?1 AND p.digest = d.value`

	// orphans selects those that neither a tag, nor an index, nor a manifest that they refer to
	// keeps, and that no cluster needs.
	orphans = `SELECT d.value FROM json_each(?2) d CROSS JOIN repository_manifests l
		WHERE l.repository = ?1 AND l.digest = d.value AND ` + unreached("?1", "d.value") + `
		AND NOT EXISTS (SELECT 1 FROM cluster_manifests k WHERE k.digest = d.value)`

	allTagged = `SELECT t.digest FROM json_each(?2) d CROSS JOIN tags t WHERE t.repository = ?1 AND t.digest = d.value LIMIT 1`
	unlinkAll = `DELETE FROM repository_manifests WHERE repository = ?1 AND digest IN (SELECT value FROM json_each(?2))`
)

// Delete removes a manifest and its tags from repo, and deletes it when no other repository or run
// has it. Children of an index go with it, unless repo has a tag, another index or a subject for
// them: a client that deletes an image means all of it. A large removal continues in further
// transactions, see removal. What an attached cluster needs stays: *KeptError.
func (s *Manifests) Delete(ctx context.Context, repo string, d digest.Digest) error {
	_, err := s.deleteManifest(ctx, repo, d, false)
	return err
}

// DeleteImage is Delete, and includes what belongs to each of the removed manifests, such as
// signatures. It returns all their digests.
func (s *Manifests) DeleteImage(ctx context.Context, repo string, d digest.Digest) ([]digest.Digest, error) {
	return s.deleteManifest(ctx, repo, d, true)
}

func (s *core) deleteManifest(ctx context.Context, repo string, d digest.Digest,
	whole bool) (gone []digest.Digest, err error) {
	if err := checkRepositoryAndDigest(repo, d); err != nil {
		return nil, err
	}
	if _, err := s.spared(ctx, s.db.Reader(), repo, d); err != nil { // its tags go first
		return nil, err
	}
	if err := s.untagMost(ctx, repo, d); err != nil {
		return nil, err
	}
	r := removal{store: s, whole: whole}
	err = s.db.ShareFreeing(ctx, func(ctx context.Context, tx *sql.Tx) error {
		id, err := s.spared(ctx, tx, repo, d)
		if err != nil {
			return err
		}
		return r.begin(ctx, tx, id, d)
	})
	if err == nil && r.left {
		err = r.finish(ctx)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("delete manifest %s: %w", d, err)
	}
	return r.gone, err
}

// spared returns the id of a repository, and a *KeptError for what is not deleted there.
func (s *core) spared(ctx context.Context, q database.Querier, repo string, d digest.Digest) (int64, error) {
	id, err := repositoryID(ctx, q, repo)
	if err == nil {
		err = checkKept(ctx, q, id, d, repo+"@"+d.String())
	}
	return id, err
}
