package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// reads are the statements of the hot paths, prepared once for each connection.
type reads struct {
	manifest, manifestByTag, blob *sql.Stmt
}

const (
	selectManifest = `SELECT m.digest, m.media_type, m.artifact_type, m.subject, m.annotations, m.created, m.body, rm.pulled, rm.repository
		FROM repositories r `

	// A blob is visible where it was pushed or mounted, and where a manifest is made of it. The second
	// matters when a client deleted a blob that its manifest still needs.
	visibleBlob = `SELECT b.size FROM blobs b WHERE b.digest = ?2 AND (
		EXISTS (SELECT 1 FROM repositories r
			JOIN repository_blobs rb ON rb.repository = r.id AND rb.digest = ?2
			WHERE r.name = ?1)
		OR EXISTS (SELECT 1 FROM repositories r
			JOIN manifest_refs f ON f.digest = ?2
			JOIN repository_manifests rm ON rm.repository = r.id AND rm.digest = f.manifest
			WHERE r.name = ?1))`
)

func prepareReads(ctx context.Context, db *sql.DB) (reads, error) {
	var r reads
	for _, p := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&r.manifest, selectManifest + `
			JOIN repository_manifests rm ON rm.repository = r.id AND rm.digest = ?2
			JOIN manifests m ON m.digest = rm.digest
			WHERE r.name = ?1`},
		{&r.manifestByTag, selectManifest + `
			JOIN tags t ON t.repository = r.id AND t.name = ?2
			JOIN repository_manifests rm ON rm.repository = r.id AND rm.digest = t.digest
			JOIN manifests m ON m.digest = t.digest
			WHERE r.name = ?1`},
		{&r.blob, visibleBlob},
	} {
		stmt, err := db.PrepareContext(ctx, p.text)
		if err != nil {
			return reads{}, err
		}
		*p.stmt = stmt // closed with the database
	}
	return r, nil
}

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
