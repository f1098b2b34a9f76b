package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
)

// What refers to a manifest belongs to it: its referrers, by subject, and what clients name by a tag made of its digest
// (sha256-<hex> for an index of referrers, and .sig, .att and .sbom of cosign). It is deleted with the manifest and evicted
// with it, and neither goes with an index that happens to list it while the manifest is held. This file is the one place
// that tells what belongs to what.

// belongingTags are the names, made of a digest x, of the tags that belong to x. A tag cannot hold all of a sha512.
func belongingTags(x string) string {
	base := `replace(substr(` + x + `, 1, 71), ':', '-')`
	return `(` + base + `, ` + base + ` || '.sig', ` + base + ` || '.att', ` + base + ` || '.sbom')`
}

// belongings selects the digests of what belongs to the manifest x of a repository.
func belongings(repository, x string) string { return belongingsFrom("", repository, x) }

// belongingsFrom is belongings for all x that are selected from something.
func belongingsFrom(from, repository, x string) string {
	return `SELECT m.digest FROM ` + from + ` manifests m CROSS JOIN repository_manifests p
			WHERE m.subject = ` + x + ` AND m.subject <> '' AND p.repository = ` + repository + ` AND p.digest = m.digest
		UNION SELECT t.digest FROM ` + from + ` tags t WHERE t.repository = ` + repository + ` AND t.name IN ` + belongingTags(x) + ` AND t.digest <> ` + x
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
	// Of the manifests ?2, a JSON array, of the repository ?1: what belongs to them, and what of the repository is listed in
	// them. The scan of one does not grow with what others have.
	allBelongings = belongingsFrom("json_each(?2) d CROSS JOIN", "?1", "d.value")
	allChildren   = `SELECT DISTINCT f.digest FROM json_each(?2) d CROSS JOIN manifest_refs f CROSS JOIN repository_manifests p
		WHERE f.manifest = d.value AND f.kind = 'child' AND p.repository = ?1 AND p.digest = f.digest`

	// orphans selects those that nothing there holds: neither a tag, nor an index, nor what they refer to.
	orphans = `SELECT d.value FROM json_each(?2) d WHERE NOT EXISTS (SELECT 1 FROM tags t WHERE t.repository = ?1 AND t.digest = d.value)
		AND NOT EXISTS (SELECT 1 FROM manifest_refs f CROSS JOIN repository_manifests p
			WHERE f.digest = d.value AND f.kind = 'child' AND p.repository = ?1 AND p.digest = f.manifest)
		AND NOT EXISTS (` + subjects("?1", "d.value") + `)`

	allTagged = `SELECT t.digest FROM json_each(?2) d CROSS JOIN tags t WHERE t.repository = ?1 AND t.digest = d.value LIMIT 1`
	unlinkAll = `DELETE FROM repository_manifests WHERE repository = ?1 AND digest IN (SELECT value FROM json_each(?2))`
)

// DeleteManifest takes a manifest, and the tags that name it, out of repo. When no other repository and no
// run has it, it is gone. Children of an index go with it, unless repo has a tag or another index for them, or what they
// refer to: who deletes an image means all of it, and nothing else would ever ask for its parts again.
func (s *Store) DeleteManifest(ctx context.Context, repo string, d digest.Digest) error {
	_, err := s.deleteManifest(ctx, repo, d, false)
	return err
}

// DeleteImage is DeleteManifest, and takes along what belongs to each of the manifests that go: signatures and other
// referrers. It gives the digests of all of them.
func (s *Store) DeleteImage(ctx context.Context, repo string, d digest.Digest) ([]digest.Digest, error) {
	return s.deleteManifest(ctx, repo, d, true)
}

func (s *Store) deleteManifest(ctx context.Context, repo string, d digest.Digest, whole bool) (gone []digest.Digest, err error) {
	if err := checkRepositoryAndDigest(repo, d); err != nil {
		return nil, err
	}
	if err := s.untagMost(ctx, repo, d); err != nil {
		return nil, err
	}
	err = s.shareFreeing(ctx, func(ctx context.Context, tx *sql.Tx) error {
		id, err := repositoryID(ctx, tx, repo)
		if err != nil {
			return err
		}
		r := removal{store: s, tx: tx, repository: id, whole: whole}
		gone, err = r.remove(ctx, d)
		return err
	})
	return gone, err
}

// removal takes a manifest out of a repository, with what goes with it.
type removal struct {
	store      *Store
	tx         *sql.Tx
	repository int64
	whole      bool                   // with what belongs to what goes
	gone       map[digest.Digest]bool // is out, or about to be
	kept       map[digest.Digest]bool // children of what is out that something else holds
	dropped    int64                  // manifests that no other repository has
}

// remove takes d out, and gives all that went. It goes level by level, each in a few statements, and looks again only at what
// a level has held: an index may list thousands of manifests, of which each refers to the next.
func (r *removal) remove(ctx context.Context, d digest.Digest) (gone []digest.Digest, err error) {
	found, err := exists(ctx, r.tx, `SELECT 1 FROM repository_manifests WHERE repository = ? AND digest = ?`, r.repository, d)
	if err == nil && !found {
		return nil, &NotFoundError{Kind: "manifest", Name: d.String()}
	}
	r.gone, r.kept = map[digest.Digest]bool{d: true}, map[digest.Digest]bool{}
	for level := []digest.Digest{d}; len(level) > 0 && err == nil; {
		gone = append(gone, level...)
		level, err = r.removeLevel(ctx, level)
	}
	if err == nil {
		err = noteDropped(ctx, r.tx, r.dropped)
	}
	if err != nil {
		return nil, fmt.Errorf("delete manifest %s: %w", d, err)
	}
	return gone, nil
}

// removeLevel takes some manifests out, and gives those that are to go next.
func (r *removal) removeLevel(ctx context.Context, level []digest.Digest) (next []digest.Digest, err error) {
	children, err := r.list(ctx, allChildren, level)
	if err != nil {
		return nil, err
	}
	var belonging []digest.Digest
	if r.whole || len(r.kept) > 0 {
		if belonging, err = r.list(ctx, allBelongings, level); err != nil {
			return nil, err
		}
	}
	if err := r.takeOut(ctx, level); err != nil {
		return nil, err
	}
	going := func(d digest.Digest) bool { return r.gone[d] }
	if r.whole {
		next = slices.DeleteFunc(slices.Clone(belonging), going)
		r.mark(next)
	}
	look := append(children, slices.DeleteFunc(belonging, func(d digest.Digest) bool { return !r.kept[d] })...)
	look = slices.DeleteFunc(look, going)
	orphaned, err := r.list(ctx, orphans, look)
	for _, d := range look {
		r.kept[d] = true
	}
	r.mark(orphaned)
	return append(next, orphaned...), err
}

// mark notes that some manifests are about to go.
func (r *removal) mark(ds []digest.Digest) {
	for _, d := range ds {
		r.gone[d] = true
	}
}

// takeOut deletes the tags and the links of some manifests, and the manifests that no other repository has.
func (r *removal) takeOut(ctx context.Context, level []digest.Digest) error {
	tagged, err := r.list(ctx, allTagged, level)
	if err == nil && len(tagged) > 0 {
		err = r.store.untag(ctx, r.tx, r.repository, level)
	}
	if err != nil {
		return err
	}
	all := asJSON(level)
	if _, err := r.tx.ExecContext(ctx, unlinkAll, r.repository, all); err != nil {
		return err
	}
	n, err := affected(ctx, r.tx, deleteUnheld, all)
	r.dropped += n
	return err
}

// list runs a query of digests about some manifests of the repository.
func (r *removal) list(ctx context.Context, text string, about []digest.Digest) (ds []digest.Digest, err error) {
	if len(about) == 0 {
		return nil, nil
	}
	scan := func(rows *sql.Rows) error {
		var d digest.Digest
		err := rows.Scan(&d)
		ds = append(ds, d)
		return err
	}
	err = query(ctx, r.tx, scan, text, r.repository, asJSON(about))
	return ds, err
}
