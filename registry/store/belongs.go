package store

import (
	"context"
	"database/sql"
	"fmt"

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
func belongings(repository, x string) string {
	return `SELECT m.digest FROM manifests m CROSS JOIN repository_manifests p
			WHERE m.subject = ` + x + ` AND m.subject <> '' AND p.repository = ` + repository + ` AND p.digest = m.digest
		UNION SELECT t.digest FROM tags t WHERE t.repository = ` + repository + ` AND t.name IN ` + belongingTags(x) + ` AND t.digest <> ` + x
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
	listBelongings = belongings("?1", "?2")

	// orphan says of a manifest ?2 of the repository ?1 that nothing there holds it: neither a tag, nor an index, nor what it
	// refers to.
	orphan = `SELECT 1 FROM repository_manifests WHERE repository = ?1 AND digest = ?2
		AND NOT EXISTS (SELECT 1 FROM tags WHERE repository = ?1 AND digest = ?2)
		AND NOT EXISTS (SELECT 1 FROM manifest_refs f JOIN repository_manifests p ON p.digest = f.manifest
			WHERE f.digest = ?2 AND f.kind = 'child' AND p.repository = ?1)
		AND NOT EXISTS (` + subjects("?1", "?2") + `)`
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
	err = s.shareFreeing(ctx, func(ctx context.Context, tx *sql.Tx) error {
		id, err := repositoryID(ctx, tx, repo)
		if err != nil {
			return err
		}
		r := removal{store: s, tx: tx, repository: id, whole: whole}
		removed, err := r.remove(ctx, d)
		if err == nil && !removed {
			err = &NotFoundError{Kind: "manifest", Name: d.String()}
		}
		gone = r.gone
		return err
	})
	return gone, err
}

// removal takes a manifest out of a repository, with what goes with it.
type removal struct {
	store      *Store
	tx         *sql.Tx
	repository int64
	whole      bool // with what belongs to what goes
	gone       []digest.Digest
}

// remove reports whether the repository had d.
func (r *removal) remove(ctx context.Context, d digest.Digest) (removed bool, err error) {
	children, err := r.list(ctx, `SELECT DISTINCT digest FROM manifest_refs WHERE manifest = ?2 AND kind = 'child' AND ?1 = ?1`, d)
	if err != nil {
		return false, fmt.Errorf("list children of %s: %w", d, err)
	}
	var belonging []digest.Digest
	if r.whole {
		if belonging, err = r.list(ctx, listBelongings, d); err != nil {
			return false, fmt.Errorf("list what belongs to %s: %w", d, err)
		}
	}
	if err := r.store.untag(ctx, r.tx, r.repository, d); err != nil {
		return false, err
	}
	n, err := affected(ctx, r.tx, `DELETE FROM repository_manifests WHERE repository = ? AND digest = ?`, r.repository, d)
	if err != nil {
		return false, fmt.Errorf("delete manifest %s: %w", d, err)
	}
	if n == 0 {
		return false, nil
	}
	r.gone = append(r.gone, d)
	if err := dropUnheld(ctx, r.tx, d); err != nil {
		return false, err
	}
	for _, b := range belonging {
		if _, err := r.remove(ctx, b); err != nil {
			return false, err
		}
	}
	return true, r.removeOrphans(ctx, children)
}

// removeOrphans removes those of some manifests that nothing holds. One of them may be the last to hold another, so those
// that stay are looked at again when one has gone.
func (r *removal) removeOrphans(ctx context.Context, all []digest.Digest) error {
	for again := true; again; {
		again = false
		var kept []digest.Digest
		for _, d := range all {
			alone, err := exists(ctx, r.tx, orphan, r.repository, d)
			if err != nil {
				return fmt.Errorf("look what holds manifest %s: %w", d, err)
			}
			if !alone {
				kept = append(kept, d)
				continue
			}
			if _, err := r.remove(ctx, d); err != nil {
				return err
			}
			again = true
		}
		all = kept
	}
	return nil
}

// list runs a query of digests about a manifest of the repository.
func (r *removal) list(ctx context.Context, text string, d digest.Digest) (ds []digest.Digest, err error) {
	scan := func(rows *sql.Rows) error {
		var found digest.Digest
		err := rows.Scan(&found)
		ds = append(ds, found)
		return err
	}
	return ds, query(ctx, r.tx, scan, text, r.repository, d)
}
