package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// What refers to a manifest belongs to it: its referrers, by subject, and what clients name by a tag made of its digest
// (sha256-<hex> for an index of referrers, and .sig, .att and .sbom of cosign). It is deleted and evicted with the manifest.
// While the manifest exists, an index that also lists it does not take it along. This file alone defines what belongs to a
// manifest.

// belongingTags are the names, made of a digest x, of the tags that belong to x. A tag cannot hold all of a sha512.
func belongingTags(x string) string {
	base := `replace(substr(` + x + `, 1, 71), ':', '-')`
	return `(` + base + `, ` + base + ` || '.sig', ` + base + ` || '.att', ` + base + ` || '.sbom')`
}

// belongings selects the digests of what belongs to the manifest x of a repository.
func belongings(repository, x string) string { return belongingsFrom("", repository, x, "") }

// belongingsFrom is belongings for all x that are selected from something. Also is what else is selected.
func belongingsFrom(from, repository, x, also string) string {
	return `SELECT m.digest` + also + ` FROM ` + from + ` manifests m CROSS JOIN repository_manifests p
			WHERE m.subject = ` + x + ` AND m.subject <> '' AND p.repository = ` + repository + ` AND p.digest = m.digest
		UNION SELECT t.digest` + also + ` FROM ` + from + ` tags t WHERE t.repository = ` + repository + ` AND t.name IN ` + belongingTags(x) + ` AND t.digest <> ` + x
}

// subjects selects the links of the manifests of a repository that the manifest x belongs to.
func subjects(repository, x string) string {
	named := `substr(t.name, 1, 6) || ':' || substr(t.name, 8, 64)` // all of a sha256, the beginning of a sha512
	return `SELECT p.digest, p.pulled FROM manifests m CROSS JOIN repository_manifests p
			WHERE m.digest = ` + x + ` AND m.subject <> '' AND p.repository = ` + repository + ` AND p.digest = m.subject
		UNION SELECT p.digest, p.pulled FROM tags t CROSS JOIN repository_manifests p
			WHERE t.repository = ` + repository + ` AND t.digest = ` + x + ` AND t.name GLOB 'sha[25][51][62]-*'
			AND substr(t.name, 72) IN ('', '.sig', '.att', '.sbom')
			AND p.repository = t.repository AND p.digest >= ` + named + ` AND p.digest < ` + named + ` || 'g' AND p.digest <> ` + x
}

var (
	// Of the manifests ?2, a JSON array, of the repository ?1: what belongs to them, and to which, and what of the repository is
	// listed in them. The scan of one does not grow with what others have.
	allBelongings = belongingsFrom("json_each(?2) d CROSS JOIN", "?1", "d.value", ", d.value")
	allChildren   = `SELECT DISTINCT f.digest FROM json_each(?2) d CROSS JOIN manifest_refs f CROSS JOIN repository_manifests p
		WHERE f.manifest = d.value AND f.kind = 'child' AND p.repository = ?1 AND p.digest = f.digest`
	allHeld = `SELECT d.value FROM json_each(?2) d CROSS JOIN repository_manifests p WHERE p.repository = ?1 AND p.digest = d.value`

	// orphans selects those that nothing there holds: neither a tag, nor an index, nor what they refer to.
	orphans = `SELECT d.value FROM json_each(?2) d CROSS JOIN repository_manifests l
		WHERE l.repository = ?1 AND l.digest = d.value AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.repository = ?1 AND t.digest = d.value)
		AND NOT EXISTS (SELECT 1 FROM manifest_refs f CROSS JOIN repository_manifests p
			WHERE f.digest = d.value AND f.kind = 'child' AND p.repository = ?1 AND p.digest = f.manifest)
		AND NOT EXISTS (` + subjects("?1", "d.value") + `)`

	allTagged = `SELECT t.digest FROM json_each(?2) d CROSS JOIN tags t WHERE t.repository = ?1 AND t.digest = d.value LIMIT 1`
	unlinkAll = `DELETE FROM repository_manifests WHERE repository = ?1 AND digest IN (SELECT value FROM json_each(?2))`
)

// Delete takes a manifest, and the tags that name it, out of repo. When no other repository and no
// run has it, it is gone. Children of an index go with it, unless repo has a tag or another index for them, or what they
// refer to: who deletes an image means all of it, and nothing else would ever ask for its parts again. What does not fit
// into one transaction goes in parts, see removal.
func (s *Manifests) Delete(ctx context.Context, repo string, d digest.Digest) error {
	_, err := s.deleteManifest(ctx, repo, d, false)
	return err
}

// DeleteImage is DeleteManifest, and takes along what belongs to each of the manifests that go: signatures and other
// referrers. It gives the digests of all of them.
func (s *Manifests) DeleteImage(ctx context.Context, repo string, d digest.Digest) ([]digest.Digest, error) {
	return s.deleteManifest(ctx, repo, d, true)
}

func (s *core) deleteManifest(ctx context.Context, repo string, d digest.Digest, whole bool) (gone []digest.Digest, err error) {
	if err := checkRepositoryAndDigest(repo, d); err != nil {
		return nil, err
	}
	if err := s.untagMost(ctx, repo, d); err != nil {
		return nil, err
	}
	r := removal{store: s, whole: whole}
	err = s.db.ShareFreeing(ctx, func(ctx context.Context, tx *sql.Tx) error {
		id, err := repositoryID(ctx, tx, repo)
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
