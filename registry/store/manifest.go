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
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// Manifest is a manifest as it was pushed.
type Manifest struct {
	Digest       digest.Digest
	MediaType    string
	ArtifactType string        // what the manifest says, else the media type of its config; "" for a plain index
	Subject      digest.Digest // "" for none
	Annotations  map[string]string
	Body         []byte // the very bytes that were pushed
	Created      time.Time

	repository int64 // whose link it was read by
	pulled     use   // where pull-through alone brought it, so that its uses count; else zero
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

// Get reads a manifest of repo. Others share what it returns: it is not to be changed.
func (s *Manifests) Get(ctx context.Context, repo string, d digest.Digest) (Manifest, error) {
	return s.recall(repo, d.String(), func() (Manifest, error) {
		if err := checkRepositoryAndDigest(repo, d); err != nil {
			return Manifest{}, err
		}
		return s.scanManifest(s.db.Reader().QueryRowContext(context.WithoutCancel(ctx), manifestByDigest, repo, d), "manifest", d.String())
	})
}

// ByTag reads the manifest that a tag of repo names. Others share what it returns: it is not to be changed.
func (s *Manifests) ByTag(ctx context.Context, repo, tag string) (Manifest, error) {
	return s.recall(repo, tag, func() (Manifest, error) {
		if err := image.CheckRepository(repo); err != nil {
			return Manifest{}, err
		}
		if err := image.CheckTag(tag); err != nil {
			return Manifest{}, err
		}
		return s.scanManifest(s.db.Reader().QueryRowContext(context.WithoutCancel(ctx), manifestByTag, repo, tag), "tag", tag)
	})
}

func (s *core) scanManifest(row *sql.Row, kind, name string) (Manifest, error) {
	var m Manifest
	var annotations string
	var created, repository int64
	var pulled bool
	err := row.Scan(&m.Digest, &m.MediaType, &m.ArtifactType, &m.Subject, &annotations, &created, &m.Body, &pulled, &repository)
	if err != nil {
		return Manifest{}, orNotFound(err, kind, name)
	}
	if pulled {
		m.pulled = use{repository, m.Digest}
	}
	m.repository = repository
	m.Created = sqlite.Time(created)
	if m.Annotations, err = annotationsFrom(annotations); err != nil {
		return Manifest{}, err
	}
	return m, s.hashes(m)
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

// referrersOf begins with what names the subject, which CROSS JOIN says: the planner has been seen to begin with all
// manifests of the repository.
const referrersOf = `SELECT m.digest FROM manifests m CROSS JOIN repositories r CROSS JOIN repository_manifests rm
	WHERE m.subject = ?2 AND m.subject <> '' AND (?3 = '' OR m.artifact_type = ?3)
	AND r.name = ?1 AND rm.repository = r.id AND rm.digest = m.digest
	ORDER BY rm.linked, m.digest`

// Referrers lists the manifests of repo that have the subject, oldest first; artifactType "" means any.
// The list is empty, without an error, for an unknown subject or repository: a signature may be pushed before its subject.
// It has digests only, since what descriptors repeat has no bound.
func (s *Manifests) Referrers(ctx context.Context, repo string, subject digest.Digest, artifactType string) ([]digest.Digest, error) {
	if err := checkRepositoryAndDigest(repo, subject); err != nil {
		return nil, err
	}
	var found []digest.Digest
	scan := func(rows *sql.Rows) error {
		var d digest.Digest
		err := rows.Scan(&d)
		found = append(found, d)
		return err
	}
	err := sqlite.Query(ctx, s.db.Reader(), scan, referrersOf, repo, subject, artifactType)
	if err != nil {
		return nil, fmt.Errorf("list referrers of %s: %w", subject, err)
	}
	return found, nil
}

// maxTags is how many tags one manifest may be put with. Each is some rows, and all are written in one transaction.
const maxTags = 2000

// PutOptions are the names and the type of a manifest that is put.
type PutOptions struct {
	MediaType string        // as the client declared it; "": what the body says
	Digest    digest.Digest // what the body must hash to; "": its sha256
	Tags      []string      // to name it
}

// Put puts a manifest into repo and moves tags to it, in one transaction. Putting it again changes
// nothing. Children of an index need not exist; a config or layer that repo does not have is a *MissingError. Others: *InvalidError, *DigestError, *FullError.
func (s *Manifests) Put(ctx context.Context, repo string, body []byte, o PutOptions) (Manifest, error) {
	return s.putManifest(ctx, repo, body, o, byPush, func(ctx context.Context, tx *sql.Tx, p image.Manifest) error {
		return s.checkHeld(ctx, tx, repo, p)
	})
}

// putManifest puts a manifest if check, in the same transaction, has nothing against what it is made of.
func (s *core) putManifest(ctx context.Context, repo string, body []byte, o PutOptions, by origin, check func(context.Context, *sql.Tx, image.Manifest) error) (Manifest, error) {
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
	if err := s.space.Check(s.database, int64(len(body))); err != nil {
		return Manifest{}, fmt.Errorf("put manifest %s: %w", m.Digest, err)
	}
	began := s.now()
	err = s.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := check(ctx, tx, p); err != nil {
			return err
		}
		if err := insertManifest(ctx, tx, &m, p); err != nil {
			return err
		}
		return s.showManifest(ctx, tx, repo, &m, p, by, o.Tags)
	})
	if err != nil {
		return Manifest{}, err
	}
	s.guard.Blobs.Unexpect(repo, began, p.Digests()...)
	return m, nil
}

// showManifest makes a manifest visible in repo and moves tags to it. Its media type becomes that of the link.
func (s *core) showManifest(ctx context.Context, tx *sql.Tx, repo string, m *Manifest, p image.Manifest, by origin, tags []string) error {
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
	return s.moveTags(ctx, tx, `SELECT ?2, n.value, ?3 FROM json_each(?4) n`, id, m.Digest, asJSON(tags))
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
		Annotations: p.Annotations, Body: body, Created: sqlite.Time(sqlite.Nanos(s.now())),
	}, p, nil
}

// checkHeld fails with a *MissingError unless the blobs that a manifest needs are visible in repo, and with an
// *InvalidError if it says another size of one than it has: clients refuse such an image at the pull.
func (s *core) checkHeld(ctx context.Context, tx *sql.Tx, repo string, p image.Manifest) error {
	return s.checkEach(ctx, tx, visibleBlob, p, func(d digest.Digest) []any { return []any{repo, d} })
}

// checkStaged is checkHeld for a run, which makes visible what it has staged for repo.
func (r *Run) checkStaged(ctx context.Context, tx *sql.Tx, repo string, p image.Manifest) error {
	return r.store.checkEach(ctx, tx, `SELECT b.size FROM blobs b WHERE b.digest = ?3 AND (`+blobHere+`)`, p,
		func(d digest.Digest) []any { return []any{r.id, repo, d} })
}

// checkEach looks at the row of each blob, and at its file: a row that has lost it must not be built upon.
func (s *core) checkEach(ctx context.Context, tx *sql.Tx, text string, p image.Manifest, args func(digest.Digest) []any) error {
	var missing []digest.Digest
	for _, r := range p.Required() {
		var size int64
		err := tx.QueryRowContext(ctx, text, args(r.Digest)...).Scan(&size)
		if err == nil && size != r.Size {
			return invalidManifest("it says that its blob %s has %d bytes, which has %d", r.Digest, r.Size, size)
		}
		if err == nil {
			err = s.files.Blob(r.Digest).Check(size)
		}
		switch {
		case errors.Is(err, sql.ErrNoRows) || blobfile.IsLoss(err):
			missing = append(missing, r.Digest)
		case err != nil:
			return fmt.Errorf("look for blob %s: %w", r.Digest, err)
		}
	}
	if len(missing) > 0 {
		return &MissingError{Digests: missing}
	}
	return nil
}

// insertManifest writes the rows of a manifest, unless they are there; Created becomes that of the row.
func insertManifest(ctx context.Context, tx *sql.Tx, m *Manifest, p image.Manifest) error {
	annotations, err := p.AnnotationsText()
	if err != nil {
		return fmt.Errorf("put manifest %s: %w", m.Digest, err)
	}
	n, err := sqlite.Affected(ctx, tx, `INSERT INTO manifests
		(digest, media_type, artifact_type, subject, annotations, size, created, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (digest) DO NOTHING`,
		m.Digest, p.MediaType, m.ArtifactType, m.Subject, annotations, len(m.Body), sqlite.Nanos(m.Created), m.Body)
	if err != nil {
		return fmt.Errorf("put manifest %s: %w", m.Digest, err)
	}
	if n == 0 {
		var created int64
		err := tx.QueryRowContext(ctx, `SELECT created FROM manifests WHERE digest = ?`, m.Digest).Scan(&created)
		if err != nil {
			return fmt.Errorf("put manifest %s: %w", m.Digest, err)
		}
		m.Created = sqlite.Time(created)
		return nil
	}
	return insertRefs(ctx, tx, m.Digest, p.References)
}

// refsAtOnce is how many rows one statement inserts: running a statement costs as much as a few rows do.
const refsAtOnce = 64

func insertRefs(ctx context.Context, tx *sql.Tx, manifest digest.Digest, refs []image.Reference) error {
	const row = ", (?, ?, ?, ?, ?, ?, ?)"
	for first := 0; first < len(refs); first += refsAtOnce {
		batch := refs[first:min(first+refsAtOnce, len(refs))]
		args := make([]any, 0, 7*len(batch))
		for i, r := range batch {
			args = append(args, manifest, first+i, r.Kind, r.Digest, r.Size, r.MediaType, r.Foreign)
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO manifest_refs (manifest, position, kind, digest, size, media_type, elsewhere)
			VALUES `+strings.Repeat(row, len(batch))[len(", "):], args...)
		if err != nil {
			return fmt.Errorf("put manifest %s: %w", manifest, err)
		}
	}
	return nil
}

// origin is how a manifest came to a repository; the numbers stand in the database. What pull-through
// brought, and nothing else, may be evicted.
type origin int

const (
	byPush origin = iota // or by a run
	byPull
)

// linkManifest makes a manifest visible in a repository. A push again declares it anew; pull-through does not change what
// was pushed. It links no blob: those of a push are visible already, and what pull-through only has the name of may be
// another repository's, see LinkPulled.
func (s *core) linkManifest(ctx context.Context, tx *sql.Tx, repository int64, m *Manifest, p image.Manifest, by origin) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO repository_manifests (repository, digest, linked, pulled, used, media_type)
		VALUES (?1, ?2, ?3, ?4, ?3, ?5)
		ON CONFLICT DO UPDATE SET pulled = excluded.pulled, media_type = excluded.media_type
		WHERE pulled > excluded.pulled OR pulled = excluded.pulled AND media_type <> excluded.media_type`,
		repository, m.Digest, sqlite.Nanos(s.now()), by, p.Declared)
	if err == nil && by == byPull && p.MediaType == "" {
		err = tx.QueryRowContext(ctx, `SELECT media_type FROM repository_manifests WHERE repository = ? AND digest = ?`,
			repository, m.Digest).Scan(&m.MediaType)
	}
	if err != nil {
		return fmt.Errorf("link manifest %s: %w", m.Digest, err)
	}
	return nil
}

// deleteUnheld deletes those of some manifests, a JSON array, that neither a repository nor a run has any more, and their
// references.
const deleteUnheld = `DELETE FROM manifests WHERE digest IN (SELECT value FROM json_each(?1))
	AND NOT EXISTS (SELECT 1 FROM repository_manifests l WHERE l.digest = manifests.digest)
	AND NOT EXISTS (SELECT 1 FROM run_manifests p WHERE p.digest = manifests.digest)`

// dropUnheld does that, and notes how many these were.
func dropUnheld(ctx context.Context, tx *sql.Tx, ds ...digest.Digest) error {
	n, err := sqlite.Affected(ctx, tx, deleteUnheld, asJSON(ds))
	if err != nil {
		return fmt.Errorf("drop manifests that nothing has: %w", err)
	}
	return noteDropped(ctx, tx, n)
}

func noteDropped(ctx context.Context, tx *sql.Tx, n int64) error {
	if n == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES (?1, ?2)
		ON CONFLICT DO UPDATE SET value = CAST(CAST(value AS INTEGER) + ?2 AS TEXT)`, droppedManifests, fmt.Sprint(n))
	if err != nil {
		return fmt.Errorf("count the manifests that were deleted: %w", err)
	}
	return nil
}

// droppedManifests names the note of how many manifests were dropped since the last collection.
const droppedManifests = "gc.manifests"

// Dropped tells how many manifests were dropped since the last collection: they go with the image at once, and a
// collection accounts for them with their blobs. take makes this the last collection.
func (s *Garbage) Dropped(ctx context.Context, take bool) (n int, err error) {
	err = s.db.Reader().QueryRowContext(ctx, `SELECT coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE name = ?), 0)`, droppedManifests).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count the manifests that were deleted: %w", err)
	}
	if !take || n == 0 {
		return n, nil
	}
	err = s.db.Freeing(func() error {
		return s.db.Write(ctx, func(tx *sql.Tx) error {
			err := tx.QueryRowContext(ctx, `DELETE FROM meta WHERE name = ? RETURNING CAST(value AS INTEGER)`, droppedManifests).Scan(&n)
			if errors.Is(err, sql.ErrNoRows) {
				n, err = 0, nil
			}
			return err
		})
	})
	if err != nil {
		return 0, fmt.Errorf("count the manifests that were deleted: %w", err)
	}
	return n, nil
}
