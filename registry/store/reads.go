package store

import (
	"database/sql"
	"errors"
	"fmt"
)

const (
	selectManifest = `SELECT m.digest, iif(m.media_type = '', rm.media_type, m.media_type), m.artifact_type, m.subject, m.annotations, m.created, m.body, rm.pulled, rm.repository
		FROM repositories r `
	manifestByDigest = selectManifest + `
		JOIN repository_manifests rm ON rm.repository = r.id AND rm.digest = ?2
		JOIN manifests m ON m.digest = rm.digest
		WHERE r.name = ?1`
	manifestByTag = selectManifest + `
		JOIN tags t ON t.repository = r.id AND t.name = ?2
		JOIN repository_manifests rm ON rm.repository = r.id AND rm.digest = t.digest
		JOIN manifests m ON m.digest = t.digest
		WHERE r.name = ?1`

	// A blob is visible where it has a link: it was pushed or mounted there, or a manifest was put that needs it, when it
	// was visible already, or pull-through or a run fetched it or had its source confirm it. To name a blob gives no link, neither
	// in a manifest that was pulled through nor as a child or a foreign layer: it may belong to other repositories only.
	visibleBlob = `SELECT b.size FROM repositories r
		CROSS JOIN repository_blobs rb ON rb.repository = r.id AND rb.digest = ?2
		CROSS JOIN blobs b ON b.digest = rb.digest
		WHERE r.name = ?1`
)

// namedIn says that a manifest of a repository names a blob in a reference f for which of holds. The look goes over what is
// less: the manifests that name the blob, or, when very many do (the empty config of every signature), those of the
// repository.
func namedIn(repository, blob, of string) string {
	return `CASE WHEN (SELECT count(*) FROM (SELECT 1 FROM manifest_refs f WHERE f.digest = ` + blob + ` LIMIT 1000)) < 1000
		THEN EXISTS (SELECT 1 FROM manifest_refs f CROSS JOIN repository_manifests rm
			WHERE f.digest = ` + blob + ` AND ` + of + ` AND rm.repository = ` + repository + ` AND rm.digest = f.manifest)
		ELSE EXISTS (SELECT 1 FROM repository_manifests rm CROSS JOIN manifest_refs f
			WHERE rm.repository = ` + repository + ` AND f.manifest = rm.digest AND f.digest = ` + blob + ` AND ` + of + `)
		END`
}

// neededIn says that a manifest of the repository ?1 is made of the blob ?2, which it therefore cannot lose.
var neededIn = namedIn("?1", "?2", "f.kind <> 'child' AND NOT f.elsewhere")

// orNotFound turns "no rows" into a *NotFoundError and says of other errors what was being done.
func orNotFound(err error, kind, name string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return &NotFoundError{Kind: kind, Name: name}
	}
	return fmt.Errorf("read %s %s: %w", kind, name, err)
}
