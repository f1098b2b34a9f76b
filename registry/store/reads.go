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
	selectManifest = `SELECT m.digest, iif(m.media_type = '', rm.media_type, m.media_type), m.artifact_type, m.subject, m.annotations, m.created, m.body, rm.pulled, rm.repository
		FROM repositories r `

	// A blob is visible where it has a link: it was pushed or mounted there, or a manifest was put that needs it, when it
	// was visible already, or pull-through or a run fetched it or had its source confirm it. To name a blob gives no link, neither
	// in a manifest that was pulled through nor as a child or a foreign layer: it may be held for others alone.
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

// writes are those of the statements of every push and of collection that take longest to parse, prepared once for the
// writer. A transaction takes them with StmtContext.
type writes struct {
	hold, isVisible, isGarbage, dropBlob *sql.Stmt
}

func prepareWrites(ctx context.Context, db *sql.DB) (writes, error) {
	var w writes
	for _, p := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&w.hold, `INSERT INTO blobs (digest, size, created) VALUES (?, ?, ?) ON CONFLICT (digest) DO NOTHING`},
		{&w.isVisible, visibleBlob},
		{&w.isGarbage, `SELECT ` + garbage + ` FROM blobs b WHERE b.digest = ?2`},
		{&w.dropBlob, `DELETE FROM blobs WHERE digest = ?`},
	} {
		stmt, err := db.PrepareContext(ctx, p.text)
		if err != nil {
			return writes{}, err
		}
		*p.stmt = stmt // closed with the database
	}
	return w, nil
}

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
