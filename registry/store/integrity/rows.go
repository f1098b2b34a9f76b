package integrity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Used reports whether a store has content that another one in its place would lose. Accounts do not
// count: an installation makes some.
func Used(ctx context.Context, q database.Querier) (bool, error) {
	return database.Exists(ctx, q, `SELECT 1 FROM manifests UNION ALL SELECT 1 FROM blobs UNION ALL SELECT 1 FROM runs`)
}

// database runs the engine's own check, also of indexes against tables.
func (v *verification) database(ctx context.Context) error {
	return v.DB.Structures(ctx, func(what string) {
		v.problem(ProblemDatabase, v.Path, what, remedyDatabase)
		_ = v.DB.Damaged(errors.New(what)) // which health tells
	})
}

// foreignKeys counts the rows that refer to missing rows. Tags are checked by name elsewhere.
func (v *verification) foreignKeys(ctx context.Context) error {
	return v.DB.Orphans(ctx, func(table, parent string, n int64) {
		if table != "tags" {
			v.problem(ProblemDatabase, table, fmt.Sprintf("%d of its rows name rows of %s that are not there", n, parent), remedyDatabase)
		}
	})
}

// tags finds tags without a manifest in their repository.
func (v *verification) tags(ctx context.Context) error {
	scan := func(rows *sql.Rows) error {
		var repo, tag, d string
		if err := rows.Scan(&repo, &tag, &d); err != nil {
			return err
		}
		v.problem(ProblemTag, repo+":"+tag, "it names "+d+", which its repository does not have", remedyTag)
		return nil
	}
	err := database.Query(ctx, v.DB.Reader(), scan, `SELECT coalesce(r.name, '#' || t.repository), t.name, t.digest
		FROM tags t LEFT JOIN repositories r ON r.id = t.repository
		WHERE r.id IS NULL OR NOT EXISTS (
			SELECT 1 FROM repository_manifests rm JOIN manifests m ON m.digest = rm.digest
			WHERE rm.repository = t.repository AND rm.digest = t.digest)`)
	if err != nil {
		return err
	}
	return v.DB.Reader().QueryRowContext(ctx, `SELECT count(*) FROM tags`).Scan(&v.report.Tags)
}

// manifests checks all manifests, page by page. One page is one snapshot of the database.
func (v *verification) manifests(ctx context.Context) error {
	for last := digest.Digest(""); ; {
		page, err := v.manifestPage(ctx, last)
		if err != nil {
			return err
		}
		if len(page) < manifestPage {
			return nil
		}
		last = page[len(page)-1]
		v.progress()
	}
}

func (v *verification) manifestPage(ctx context.Context, last digest.Digest) (page []digest.Digest, err error) {
	tx, err := v.DB.Reader().BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }() // it has nothing to commit
	page, err = database.Column[digest.Digest](ctx, tx,
		`SELECT digest FROM manifests WHERE digest > ? ORDER BY digest LIMIT ?`, last, manifestPage)
	if err != nil {
		return nil, err
	}
	for _, d := range page {
		if err := v.manifest(ctx, tx, d); err != nil {
			return nil, fmt.Errorf("manifest %s: %w", d, err)
		}
	}
	return page, nil
}

const (
	selectManifest = `SELECT m.media_type, m.artifact_type, m.subject, m.annotations, m.size, m.body,
			EXISTS (SELECT 1 FROM repository_manifests rm WHERE rm.digest = m.digest)
				OR EXISTS (SELECT 1 FROM run_manifests p WHERE p.digest = m.digest),
			EXISTS (SELECT 1 FROM repository_manifests rm WHERE rm.digest = m.digest AND rm.media_type = '')
		FROM manifests m WHERE m.digest = ?`
	selectRefs = `SELECT f.kind, f.digest, f.size, f.media_type, f.elsewhere,
			(SELECT b.size FROM blobs b WHERE b.digest = f.digest)
		FROM manifest_refs f WHERE f.manifest = ? ORDER BY f.position`
)

type manifestRow struct {
	mediaType, artifactType string
	subject                 digest.Digest
	annotations             string
	size                    int64
	body                    []byte
	had                     bool // by a repository, or a run under way
	untyped                 bool // a repository has it without a media type of its own
}

// heldRef is a row of references, and the size of the blob, if it exists.
type heldRef struct {
	image.Reference
	held sql.NullInt64
}

func (r *heldRef) columns() []any {
	return []any{&r.Kind, &r.Digest, &r.Size, &r.MediaType, &r.Foreign, &r.held}
}

func (v *verification) manifest(ctx context.Context, tx *sql.Tx, d digest.Digest) error {
	var m manifestRow
	err := tx.QueryRowContext(ctx, selectManifest, d).Scan(&m.mediaType, &m.artifactType,
		&m.subject, &m.annotations, &m.size, &m.body, &m.had, &m.untyped)
	if err != nil {
		return err
	}
	refs, err := database.List(ctx, tx, (*heldRef).columns, selectRefs, d)
	if err != nil {
		return err
	}
	v.report.Manifests++
	v.report.References += int64(len(refs))
	if what := compareManifest(d, m, refs); what != "" {
		v.problem(ProblemManifest, d.String(), what, remedyManifest)
		return nil // what it is made of cannot be told
	}
	if !m.had {
		v.problem(ProblemManifest, d.String(), "no repository has it any more", remedyRepush)
	}
	return v.needs(ctx, tx, d, refs)
}

// compareManifest returns how the rows of a manifest differ from its body, "" if they agree.
func compareManifest(d digest.Digest, m manifestRow, refs []heldRef) string {
	if err := image.CheckDigest(d); err != nil {
		return err.Error()
	}
	if got := d.Algorithm().FromBytes(m.body); got != d {
		return "its body hashes to " + got.String()
	}
	if m.size != int64(len(m.body)) {
		return fmt.Sprintf("its row says %d bytes, its body has %d", m.size, len(m.body))
	}
	declared := m.mediaType
	if declared == "" {
		declared = "application/octet-stream" // any: the links say which
	}
	p, err := image.Parse(declared, m.body)
	if err != nil {
		return "its body cannot be read: " + err.Error()
	}
	if m.mediaType == "" && p.MediaType == "" && m.untyped {
		return "neither its body nor each of its repositories says its media type"
	}
	annotations, err := p.AnnotationsText()
	if err != nil {
		return "its annotations cannot be read: " + err.Error()
	}
	for _, column := range []struct{ name, row, body string }{
		{"media type", m.mediaType, p.MediaType},
		{"artifact type", m.artifactType, p.ArtifactType},
		{"subject", m.subject.String(), p.Subject.String()},
		{"annotations", m.annotations, annotations},
	} {
		if column.row != column.body {
			return fmt.Sprintf("its row has the %s %s, its body %s", column.name,
				image.Quote(column.row), image.Quote(column.body))
		}
	}
	if len(refs) != len(p.References) {
		return fmt.Sprintf("%d references are recorded, its body has %d", len(refs), len(p.References))
	}
	for i, r := range refs {
		stated := p.References[i]
		stated.URLs, stated.Platform = false, "" // no column has them
		if r.Reference != stated {
			return fmt.Sprintf("reference %d is recorded as %+v, its body has %+v", i, r.Reference, stated)
		}
	}
	return ""
}

// needs finds blobs that a pull of the manifest needs and that are missing or have another size.
func (v *verification) needs(ctx context.Context, tx *sql.Tx, d digest.Digest, refs []heldRef) error {
	missing, other := map[digest.Digest]bool{}, map[digest.Digest]heldRef{}
	for _, r := range refs {
		switch {
		case r.Kind == image.Child:
		case r.held.Valid && r.held.Int64 != r.Size:
			other[r.Digest] = r
		case !r.Foreign && !r.held.Valid:
			missing[r.Digest] = true
		}
	}
	if len(missing)+len(other) == 0 {
		return nil
	}
	lazily, err := database.Exists(ctx, tx, pulledOnly, d)
	if err != nil {
		return err
	}
	for blob, r := range other {
		if !lazily { // an upstream's mistake is served as it is: there is nothing here to be mended
			v.problem(ProblemManifest, d.String(),
				fmt.Sprintf("it says that its blob %s has %d bytes, which has %d", blob, r.Size,
					r.held.Int64), remedySize)
		}
	}
	return v.needsBlobs(ctx, tx, d, missing, lazily)
}

func (v *verification) needsBlobs(ctx context.Context, tx *sql.Tx, d digest.Digest,
	missing map[digest.Digest]bool, lazily bool) error {
	for blob := range missing {
		switch quarantined, err := database.Exists(ctx, tx, `SELECT 1 FROM quarantine WHERE digest = ?`, blob); {
		case err != nil:
			return err
		case quarantined:
			v.problem(ProblemManifest, d.String(), "its blob "+blob.String()+" is in quarantine", remedyRepush)
		case lazily:
			v.report.Unfetched++
		default:
			v.problem(ProblemManifest, d.String(), "its blob "+blob.String()+" is not held", remedyRepush)
		}
	}
	return nil
}

// pulledOnly selects a manifest ?1 that each of its repositories has by pull-through, or that
// pull-through fills: there, a manifest comes before its layers.
const pulledOnly = `SELECT 1 FROM repository_manifests WHERE digest = ?1 AND NOT EXISTS (
	SELECT 1 FROM repository_manifests rm JOIN repositories r ON r.id = rm.repository
	WHERE rm.digest = ?1 AND rm.pulled = 0
	AND NOT EXISTS (SELECT 1 FROM sources s WHERE s.repository = r.name AND s.pulled = 1))`
