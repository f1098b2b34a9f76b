package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Manifest is a manifest as it was pushed.
type Manifest struct {
	Digest       digest.Digest
	MediaType    string
	ArtifactType string        // of the manifest, else the media type of its config; "" for a plain index
	Subject      digest.Digest // "" for none
	Annotations  map[string]string
	Body         []byte // as it was pushed
	Created      time.Time

	repository int64   // of the link
	pulled     linkKey // zero unless pull-through alone brought it, for its last access
}

// Descriptor describes the manifest as lists of referrers do.
func (m Manifest) Descriptor() ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType:    m.MediaType,
		ArtifactType: m.ArtifactType,
		Digest:       m.Digest,
		Size:         int64(len(m.Body)),
		Annotations:  m.Annotations,
	}
}

// Get returns a manifest of repo, which callers share and do not change.
func (s *Manifests) Get(ctx context.Context, repo string, d digest.Digest) (Manifest, error) {
	return s.cachedManifest(repo, d.String(), func(content bool) (Manifest, error) {
		if err := checkRepositoryAndDigest(repo, d); err != nil {
			return Manifest{}, err
		}
		text := manifestByDigest
		if !content {
			text = linkByDigest
		}
		return scanManifest(s.db.Reader().QueryRowContext(context.WithoutCancel(ctx), text, repo, d), "manifest", d.String())
	})
}

// ByTag returns the manifest of a tag, which callers share and do not change.
func (s *Manifests) ByTag(ctx context.Context, repo, tag string) (Manifest, error) {
	return s.cachedManifest(repo, tag, func(content bool) (Manifest, error) {
		if err := image.CheckRepository(repo); err != nil {
			return Manifest{}, err
		}
		if err := image.CheckTag(tag); err != nil {
			return Manifest{}, err
		}
		text := manifestByTag
		if !content {
			text = linkByTag
		}
		return scanManifest(s.db.Reader().QueryRowContext(context.WithoutCancel(ctx), text, repo, tag), "tag", tag)
	})
}

func scanManifest(row *sql.Row, kind, name string) (Manifest, error) {
	var m Manifest
	var annotations string
	var created, repository int64
	var pulled bool
	err := row.Scan(&m.Digest, &m.MediaType, &m.ArtifactType, &m.Subject, &annotations, &created,
		&m.Body, &pulled, &repository)
	if err != nil {
		return Manifest{}, orNotFound(err, kind, name)
	}
	if pulled {
		m.pulled = linkKey{repository, m.Digest}
	}
	m.repository = repository
	m.Created = database.Time(created)
	m.Annotations, err = annotationsFrom(annotations)
	return m, err
}

func annotationsFrom(text string) (map[string]string, error) {
	if text == "" {
		return nil, nil
	}
	var annotations map[string]string
	if err := json.Unmarshal([]byte(text), &annotations); err != nil {
		return nil, fmt.Errorf("read annotations: %w", err)
	}
	return annotations, nil
}

// referrersOf begins with the referrers of the subject, by CROSS JOIN: the planner has been seen to
// begin with all manifests of the repository.
const referrersOf = `SELECT m.digest FROM manifests m CROSS JOIN repositories r CROSS JOIN repository_manifests rm
	WHERE m.subject = ?2 AND m.subject <> '' AND (?3 = '' OR m.artifact_type = ?3)
	AND r.name = ?1 AND rm.repository = r.id AND rm.digest = m.digest
	ORDER BY rm.linked, m.digest`

// Referrers lists the manifests of repo with a subject, oldest first; artifactType "" means any. It
// is empty for an unknown subject or repository: a signature may be pushed before its subject. It
// has digests only, since descriptors have no bound.
func (s *Manifests) Referrers(ctx context.Context, repo string, subject digest.Digest,
	artifactType string) ([]digest.Digest, error) {
	if err := checkRepositoryAndDigest(repo, subject); err != nil {
		return nil, err
	}
	found, err := database.Column[digest.Digest](ctx, s.db.Reader(), referrersOf, repo, subject, artifactType)
	if err != nil {
		return nil, fmt.Errorf("list referrers of %s: %w", subject, err)
	}
	return found, nil
}

// maxTags bounds the tags of one Put, which are written in one transaction.
const maxTags = 2000

// PutOptions are the options of Put.
type PutOptions struct {
	MediaType string        // as the client declared it; "": that of the body
	Digest    digest.Digest // of the body; "": its sha256
	Tags      []string      // to move to it
}

// Put puts a manifest into repo and moves tags to it, in one transaction. It is idempotent.
// Children of an index need not exist; a missing config or layer is a *MissingError. Others:
// *InvalidError, *DigestError, *FullError.
func (s *Manifests) Put(ctx context.Context, repo string, body []byte, o PutOptions) (Manifest, error) {
	return s.putManifest(ctx, repo, body, o, byPush, func(p image.Manifest) (checkFunc, error) {
		return s.requires(ctx, p, visibleBlob, func(d digest.Digest) []any { return []any{repo, d} })
	})
}

// checkFunc accepts the references of a manifest in the transaction that puts it, or returns an error.
type checkFunc func(context.Context, *sql.Tx) error

// putManifest puts a manifest if the check that prepare returns, in the same transaction, accepts it.
func (s *core) putManifest(ctx context.Context, repo string, body []byte, o PutOptions, by origin,
	prepare func(image.Manifest) (checkFunc, error)) (Manifest, error) {
	if err := image.CheckRepository(repo); err != nil {
		return Manifest{}, err
	}
	if len(o.Tags) > maxTags {
		return Manifest{}, invalidManifest("it comes with %d tags, more than the %d that are accepted at once", len(o.Tags), maxTags)
	}
	for _, tag := range o.Tags {
		if err := image.CheckTag(tag); err != nil {
			return Manifest{}, err
		}
	}
	leave, err := s.places.enter(ctx, len(body))
	if err != nil {
		return Manifest{}, err
	}
	defer leave()
	m, p, err := s.newManifest(body, o.MediaType, o.Digest)
	if err != nil {
		return Manifest{}, err
	}
	if err := s.databaseSpace(int64(len(body))); err != nil {
		return Manifest{}, fmt.Errorf("put manifest %s: %w", m.Digest, err)
	}
	check, err := prepare(p)
	if err != nil {
		return Manifest{}, err
	}
	began := s.now()
	err = s.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := check(ctx, tx); err != nil {
			return err
		}
		if err := insertManifest(ctx, tx, &m, p); err != nil {
			return err
		}
		if err := s.showManifest(ctx, tx, repo, &m, p, by, o.Tags); err != nil {
			return err
		}
		return s.guard.Blobs.Unexpect(ctx, tx, repo, began, p.Digests()...)
	})
	if err != nil {
		return Manifest{}, err
	}
	s.guard.Blobs.Unexpected(repo, began, p.Digests()...)
	return m, nil
}

// showManifest makes a manifest visible in repo, with the media type that was declared, and moves
// tags to it.
func (s *core) showManifest(ctx context.Context, tx *sql.Tx, repo string, m *Manifest,
	p image.Manifest, by origin, tags []string) error {
	id, err := s.ensureRepository(ctx, tx, repo)
	if err != nil {
		return err
	}
	if err := s.linkManifest(ctx, tx, id, m, p, by); err != nil {
		return err
	}
	if len(tags) == 0 {
		return nil
	}
	return s.moveTags(ctx, tx, `SELECT CAST(?2 AS BIGINT), n.value, ?3 FROM json_each(?4) n`, id, m.Digest, asJSON(tags))
}

// newManifest parses and verifies a body.
func (s *core) newManifest(body []byte, mediaType string, want digest.Digest) (Manifest, image.Manifest, error) {
	p, err := image.ParseNew(mediaType, body)
	if err != nil {
		return Manifest{}, image.Manifest{}, err
	}
	algorithm := digest.SHA256
	if want != "" {
		if err := image.CheckDigest(want); err != nil {
			return Manifest{}, image.Manifest{}, err
		}
		algorithm = want.Algorithm()
	}
	got := algorithm.FromBytes(body)
	if want != "" && got != want {
		return Manifest{}, image.Manifest{}, &DigestError{Want: want, Got: got}
	}
	return Manifest{
		Digest: got, MediaType: p.EffectiveType(), ArtifactType: p.ArtifactType, Subject: p.Subject,
		Annotations: p.Annotations, Body: body, Created: database.Time(database.Nanos(s.now())),
	}, p, nil
}

// insertManifest inserts the rows of a manifest unless they exist, and sets Created to that of the
// row.
func insertManifest(ctx context.Context, tx *sql.Tx, m *Manifest, p image.Manifest) error {
	annotations, err := p.AnnotationsText()
	if err != nil {
		return fmt.Errorf("put manifest %s: %w", m.Digest, err)
	}
	n, err := database.Affected(ctx, tx, `INSERT INTO manifests
		(digest, media_type, artifact_type, subject, annotations, size, created, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (digest) DO NOTHING`,
		m.Digest, p.MediaType, m.ArtifactType, m.Subject, annotations, len(m.Body), database.Nanos(m.Created), m.Body)
	if err != nil {
		return fmt.Errorf("put manifest %s: %w", m.Digest, err)
	}
	if n == 0 {
		var created int64
		err := tx.QueryRowContext(ctx, `SELECT created FROM manifests WHERE digest = ?`, m.Digest).Scan(&created)
		if err != nil {
			return fmt.Errorf("put manifest %s: %w", m.Digest, err)
		}
		m.Created = database.Time(created)
		return nil
	}
	return insertRefs(ctx, tx, m.Digest, p.References)
}

// refsAtOnce is how many rows one statement inserts: the call costs as much as a few rows.
const refsAtOnce = 64

func insertRows(n int) string {
	return `INSERT INTO manifest_refs (manifest, position, kind, digest, size, media_type, elsewhere) VALUES ` +
		strings.Repeat(", (?, ?, ?, ?, ?, ?, ?)", n)[len(", "):]
}

func insertRefs(ctx context.Context, tx *sql.Tx, manifest digest.Digest, refs []image.Reference) error {
	for first := 0; first < len(refs); first += refsAtOnce {
		batch := refs[first:min(first+refsAtOnce, len(refs))]
		args := make([]any, 0, 7*len(batch))
		for i, r := range batch {
			args = append(args, manifest, first+i, r.Kind, r.Digest, r.Size, r.MediaType, r.Foreign)
		}
		_, err := tx.ExecContext(ctx, insertRows(len(batch)), args...)
		if err != nil {
			return fmt.Errorf("put manifest %s: %w", manifest, err)
		}
	}
	return nil
}

// origin is how content came to a repository; the database has the numbers. Only pulled content may
// be evicted, unless it is pinned: then the database has 2, see Pin.
type origin int

const (
	byPush origin = iota // or by a run
	byPull
)

// linkManifest makes a manifest visible in a repository. A push declares its media type anew;
// pull-through does not change a pushed one. It links no blob: those of a push are visible already,
// and those of a pulled-through manifest may be another repository's, see LinkPulled.
func (s *core) linkManifest(ctx context.Context, tx *sql.Tx, repository int64, m *Manifest,
	p image.Manifest, by origin) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO repository_manifests (repository, digest, linked, pulled, used, media_type)
		VALUES (?1, ?2, ?3, ?4, ?3, ?5)
		ON CONFLICT (repository, digest) DO UPDATE SET pulled = excluded.pulled, media_type = excluded.media_type
		WHERE repository_manifests.pulled <> 0 AND excluded.pulled = 0
			OR repository_manifests.pulled = excluded.pulled AND repository_manifests.media_type <> excluded.media_type`,
		repository, m.Digest, database.Nanos(s.now()), by, p.Declared)
	if err == nil && by == byPull && p.MediaType == "" {
		err = tx.QueryRowContext(ctx, `SELECT media_type FROM repository_manifests WHERE repository = ? AND digest = ?`,
			repository, m.Digest).Scan(&m.MediaType)
	}
	if err != nil {
		return fmt.Errorf("link manifest %s: %w", m.Digest, err)
	}
	return nil
}

// deleteUnlinked deletes those manifests of a JSON array that no repository or run has.
const deleteUnlinked = `DELETE FROM manifests WHERE digest IN (SELECT value FROM json_each(?1))
	AND NOT EXISTS (SELECT 1 FROM repository_manifests l WHERE l.digest = manifests.digest)
	AND NOT EXISTS (SELECT 1 FROM run_manifests p WHERE p.digest = manifests.digest)`

// dropUnlinked runs deleteUnlinked, and notes the number.
func dropUnlinked(ctx context.Context, tx *sql.Tx, ds ...digest.Digest) error {
	n, err := database.Affected(ctx, tx, deleteUnlinked, asJSON(ds))
	if err != nil {
		return fmt.Errorf("delete manifests without a link: %w", err)
	}
	return noteDropped(ctx, tx, n)
}

func noteDropped(ctx context.Context, tx *sql.Tx, n int64) error {
	if n == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES (?1, ?2)
		ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(meta.value AS BIGINT) + CAST(?2 AS BIGINT) AS TEXT)`, droppedManifests, fmt.Sprint(n))
	if err != nil {
		return fmt.Errorf("count deleted manifests: %w", err)
	}
	return nil
}

// droppedManifests is the note of how many manifests were deleted since the last collection.
const droppedManifests = "gc.manifests"

// Dropped returns how many manifests were deleted since the last collection. They go with their
// image at once, and are reported with their blobs. take makes this the last collection.
func (s *Garbage) Dropped(ctx context.Context, take bool) (n int, err error) {
	err = s.db.Reader().QueryRowContext(ctx, `SELECT coalesce((SELECT CAST(value AS BIGINT) FROM meta WHERE name = ?), 0)`, droppedManifests).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count deleted manifests: %w", err)
	}
	if !take || n == 0 {
		return n, nil
	}
	err = s.db.WriteFreeing(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `DELETE FROM meta WHERE name = ? RETURNING CAST(value AS BIGINT)`, droppedManifests).Scan(&n)
		if errors.Is(err, sql.ErrNoRows) {
			n, err = 0, nil
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("count deleted manifests: %w", err)
	}
	return n, nil
}

const (
	selectManifest = `SELECT m.digest, CASE m.media_type WHEN '' THEN rm.media_type ELSE m.media_type END, m.artifact_type, m.subject, m.annotations, m.created, m.body, rm.pulled = 1, rm.repository
		FROM repositories r `
	// selectLink selects the same without the content.
	selectLink = `SELECT m.digest, CASE m.media_type WHEN '' THEN rm.media_type ELSE m.media_type END, '', '', '', m.created, NULL, rm.pulled = 1, rm.repository
		FROM repositories r `
	ofDigest = `
		JOIN repository_manifests rm ON rm.repository = r.id AND rm.digest = ?2
		JOIN manifests m ON m.digest = rm.digest
		WHERE r.name = ?1`
	ofTag = `
		JOIN tags t ON t.repository = r.id AND t.name = ?2
		JOIN repository_manifests rm ON rm.repository = r.id AND rm.digest = t.digest
		JOIN manifests m ON m.digest = t.digest
		WHERE r.name = ?1`
	manifestByDigest, manifestByTag = selectManifest + ofDigest, selectManifest + ofTag
	linkByDigest, linkByTag         = selectLink + ofDigest, selectLink + ofTag

	// A blob is visible where it has a link: by a push, a mount, a confirmed run or pull-through. A
	// reference gives no link, neither by a pulled-through manifest nor as a child or a foreign
	// layer: the blob may be another repository's.
	visibleBlob = `SELECT b.size FROM repositories r
		CROSS JOIN repository_blobs rb ON rb.repository = r.id AND rb.digest = ?2
		CROSS JOIN blobs b ON b.digest = rb.digest
		WHERE r.name = ?1`
)

// namedIn reports whether a manifest of a repository has a reference f to a blob with the condition
// of. It begins with the fewer rows: the references to the blob, or, when very many manifests have
// one (the empty config of every signature), the manifests of the repository.
func namedIn(repository, blob, of string) string {
	return `CASE WHEN (SELECT count(*) FROM (SELECT 1 FROM manifest_refs f WHERE f.digest = ` + blob + ` LIMIT 1000) few) < 1000
		THEN EXISTS (SELECT 1 FROM manifest_refs f CROSS JOIN repository_manifests rm
			WHERE f.digest = ` + blob + ` AND ` + of + ` AND rm.repository = ` + repository + ` AND rm.digest = f.manifest)
		ELSE EXISTS (SELECT 1 FROM repository_manifests rm CROSS JOIN manifest_refs f
			WHERE rm.repository = ` + repository + ` AND f.manifest = rm.digest AND f.digest = ` + blob + ` AND ` + of + `)
		END`
}

// neededLink selects the link of the blob ?2 in the repository ?1 if a manifest
// there refers to the blob.
var neededLink = `SELECT 1 FROM repository_blobs WHERE repository = ?1 AND digest = ?2 AND ` +
	namedIn("?1", "?2", "f.kind <> 'child' AND f.elsewhere = 0")

// orNotFound turns "no rows" into a *NotFoundError, and adds context to other errors.
func orNotFound(err error, kind, name string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return &NotFoundError{Kind: kind, Name: name}
	}
	return fmt.Errorf("read %s %s: %w", kind, name, err)
}
