package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Run is a staged sync. Its content is protected from collection and invisible until Commit, which
// shows its manifests and tags in one transaction. It survives a restart: Runs.Get continues it. Of
// concurrent runs that set the same tag, the later Commit wins.
type Run struct {
	store *core
	id    string
}

// Begin begins a run; name is for people.
func (s *Runs) Begin(ctx context.Context, name string) (*Run, error) {
	random, err := uuid.NewRandom()
	if err != nil {
		return nil, fmt.Errorf("begin run: %w", err)
	}
	now := database.Nanos(s.now())
	err = s.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO runs (id, name, started, last_seen, committed) VALUES (?, ?, ?, ?, 0)`,
			random.String(), name, now, now)
		if err != nil {
			return fmt.Errorf("begin run: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &Run{store: s.core, id: random.String()}, nil
}

// Get returns an open run, or a committed one, whose Commit may be repeated after a lost answer. An
// aborted one is not found.
func (s *Runs) Get(ctx context.Context, id string) (*Run, error) {
	found, err := database.Exists(ctx, s.db.Reader(), `SELECT 1 FROM runs WHERE id = ? AND committed >= 0`, id)
	if err != nil {
		return nil, fmt.Errorf("read run: %w", err)
	}
	if !found {
		return nil, &NotFoundError{Kind: "run", Name: image.Quote(id)}
	}
	return &Run{store: s.core, id: id}, nil
}

// ID returns the id of the run.
func (r *Run) ID() string { return r.id }

// share runs fn in a shared transaction, if the run is open, and records its last access.
func (r *Run) share(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error {
	return r.store.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := r.touch(ctx, tx); err != nil {
			return err
		}
		return fn(ctx, tx)
	})
}

// touch records the last access of the run, if it is open and not being committed.
func (r *Run) touch(ctx context.Context, tx *sql.Tx) error {
	if committing, err := r.store.guard.Runs.Committing(ctx, tx, r.id); err != nil {
		return fmt.Errorf("touch run %s: %w", r.id, err)
	} else if committing {
		return &InvalidError{What: "run", Reason: r.id + " is being committed"}
	}
	return r.beat(ctx, tx)
}

// beat records the last access of the run, if it is open.
func (r *Run) beat(ctx context.Context, tx *sql.Tx) error {
	n, err := database.Affected(ctx, tx, `UPDATE runs SET last_seen = ? WHERE id = ? AND committed = 0`, database.Nanos(r.store.now()), r.id)
	if err != nil {
		return fmt.Errorf("touch run %s: %w", r.id, err)
	}
	if n == 1 {
		return nil
	}
	committed, err := database.Exists(ctx, tx, `SELECT 1 FROM runs WHERE id = ? AND committed > 0`, r.id)
	switch {
	case err != nil:
		return fmt.Errorf("touch run %s: %w", r.id, err)
	case committed:
		return errCommitted(r.id)
	}
	return &NotFoundError{Kind: "run", Name: r.id}
}

func errCommitted(id string) error {
	return &InvalidError{What: "run", Reason: id + " is committed already; begin another"}
}

func (r *Run) pin(ctx context.Context, tx *sql.Tx, repo string, d digest.Digest) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO run_blobs (run, repository, digest) VALUES (?, ?, ?)
		ON CONFLICT DO NOTHING`, r.id, repo, d)
	if err != nil {
		return fmt.Errorf("pin blob %s: %w", d, err)
	}
	return nil
}

// stage stages a manifest, with the media type declared where its body has none.
func (r *Run) stage(ctx context.Context, tx *sql.Tx, repo string, d digest.Digest, declared string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO run_manifests (run, repository, digest, media_type) VALUES (?, ?, ?, ?)
		ON CONFLICT (run, repository, digest) DO UPDATE SET media_type = excluded.media_type`, r.id, repo, d, declared)
	if err != nil {
		return fmt.Errorf("stage manifest %s: %w", d, err)
	}
	return nil
}

// PutManifest stages a manifest for repo. *MissingError unless its config and layers are visible
// there or staged for repo.
func (r *Run) PutManifest(ctx context.Context, repo string, desc ocispec.Descriptor, body []byte) error {
	if err := checkRepositoryAndDigest(repo, desc.Digest); err != nil {
		return err
	}
	if desc.Size != int64(len(body)) {
		return invalidManifest("%s has %d bytes, its descriptor says %d", desc.Digest, len(body), desc.Size)
	}
	if err := r.store.databaseSpace(desc.Size); err != nil {
		return fmt.Errorf("put manifest %s: %w", desc.Digest, err)
	}
	leave, err := r.store.places.enter(ctx, len(body))
	if err != nil {
		return err
	}
	defer leave()
	m, p, err := r.store.newManifest(body, desc.MediaType, desc.Digest)
	if err != nil {
		return err
	}
	// Staged blobs count as visible.
	check, err := r.store.requires(ctx, p, stagedBlob, func(d digest.Digest) []any { return []any{r.id, repo, d} })
	if err != nil {
		return err
	}
	return r.share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := check(ctx, tx); err != nil {
			return err
		}
		if err := insertManifest(ctx, tx, &m, p); err != nil {
			return err
		}
		return r.stage(ctx, tx, repo, m.Digest, p.Declared)
	})
}

// Tag stages tags, by repository and name. Each manifest must exist in the repository or be staged
// for it. When one tag fails, others may be staged.
func (r *Run) Tag(ctx context.Context, tags map[string]map[string]digest.Digest) error {
	var all []runTag
	for repo, named := range tags {
		for tag, d := range named {
			if err := errors.Join(checkRepositoryAndDigest(repo, d), image.CheckTag(tag)); err != nil {
				return err
			}
			all = append(all, runTag{repo, tag, d})
		}
	}
	for batch := range slices.Chunk(all, runBatch) {
		err := r.share(ctx, func(ctx context.Context, tx *sql.Tx) error {
			for _, t := range batch {
				if err := r.tag(ctx, tx, t); err != nil {
					return fmt.Errorf("stage tag %s:%s: %w", t.repo, t.name, err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

type runTag struct {
	repo, name string
	digest     digest.Digest
}

func (r *Run) tag(ctx context.Context, tx *sql.Tx, t runTag) error {
	held, err := database.Exists(ctx, tx, `SELECT 1 FROM run_manifests WHERE run = ?1 AND repository = ?2 AND digest = ?3
		UNION ALL SELECT 1 FROM repository_manifests rm JOIN repositories r ON r.id = rm.repository
		WHERE r.name = ?2 AND rm.digest = ?3`, r.id, t.repo, t.digest)
	if err != nil {
		return err
	}
	if !held {
		return &NotFoundError{Kind: "manifest", Name: t.digest.String()}
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO run_tags (run, repository, name, digest) VALUES (?, ?, ?, ?)
		ON CONFLICT (run, repository, name) DO UPDATE SET digest = excluded.digest`, r.id, t.repo, t.name, t.digest)
	return err
}

// Abort ends the run and deletes the manifests that nothing else has. Its blobs stay until
// collection, so that another run soon finds them.
func (r *Run) Abort(ctx context.Context) error {
	err := r.store.db.WriteFreeing(ctx, func(tx *sql.Tx) error {
		if err := r.touch(ctx, tx); err != nil {
			return err
		}
		return abort(ctx, tx, r.id)
	})
	if err != nil {
		return err
	}
	r.store.clearEnded(ctx, r.id)
	return nil
}

// sourceFresh is how long a source counts as recorded: pull-through names its source with
// everything it fetches, and a transaction each time would cost more than it tells.
const sourceFresh = 24 * time.Hour

// Source records, by repository, that what the run puts there comes from each of some names, such
// as quay.io/openshift-release-dev/ocp-release. It is what scrub asks when a blob is damaged, and
// is kept also when the run is aborted.
func (r *Run) Source(ctx context.Context, from map[string][]string) error {
	var all []source
	for repo, names := range from {
		for _, name := range names {
			registry, path, _ := strings.Cut(name, "/")
			all = append(all, source{repo, registry, path})
		}
	}
	return r.store.recordSources(ctx, all, false)
}

// RecordSource records that pull-through fetched something for repo from path on
// registry (host[:port]).
func (s *Blobs) RecordSource(ctx context.Context, repo, registry, path string) error {
	return s.recordSources(ctx, []source{{repo, registry, path}}, true)
}

type source struct{ repo, registry, path string }

func (s source) check() error {
	if s.registry == "" || s.path == "" {
		return &InvalidError{What: "source", Reason: "both a registry and a repository on it are needed"}
	}
	return image.CheckRepository(s.repo)
}

func (s *core) recordSources(ctx context.Context, all []source, pulled bool) error {
	now := s.now()
	var unknown []source
	for _, from := range all {
		if err := from.check(); err != nil {
			return err
		}
		fresh, err := database.Exists(ctx, s.db.Reader(), `SELECT 1 FROM sources
			WHERE repository = ? AND registry = ? AND path = ? AND pulled >= ? AND seen > ?`,
			from.repo, from.registry, from.path, pulled, database.Nanos(now.Add(-sourceFresh)))
		if err != nil {
			return fmt.Errorf("record source of %s: %w", from.repo, err)
		}
		if !fresh {
			unknown = append(unknown, from)
		}
	}
	for batch := range slices.Chunk(unknown, runBatch) {
		err := s.db.Write(ctx, func(tx *sql.Tx) error {
			for _, from := range batch {
				_, err := tx.ExecContext(ctx, `INSERT INTO sources (repository, registry, path, pulled, seen) VALUES (?, ?, ?, ?, ?)
					ON CONFLICT (repository, registry, path) DO UPDATE SET pulled = max(sources.pulled, excluded.pulled), seen = excluded.seen`,
					from.repo, from.registry, from.path, pulled, database.Nanos(now))
				if err != nil {
					return fmt.Errorf("record source of %s: %w", from.repo, err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// wantsNote is the prefix of the names of notes with the images that image sets want.
const wantsNote = "wants "

// maxWants bounds what one image set wants.
const maxWants = 32 << 20

// Want keeps what an image set wants, by a key: JSON that is returned as it is. It replaces the last of
// that key at once, whatever becomes of the run.
func (r *Run) Want(ctx context.Context, key string, wants json.RawMessage) error {
	return (&Runs{r.store}).Want(ctx, key, wants)
}

// Want keeps what an image set wants, see Run's. null removes what the key has.
func (s *Runs) Want(ctx context.Context, key string, wants json.RawMessage) error {
	if key == "" || len(key) > maxOrigin || len(wants) > maxWants || !json.Valid(wants) {
		return &InvalidError{What: "list of what is wanted", Reason: fmt.Sprintf("it needs a key of at most %d bytes and a JSON document of at most %d", maxOrigin, maxWants)}
	}
	if string(wants) == "null" {
		wants = nil
	}
	return s.SetNote(ctx, wantsNote+key, string(wants))
}

// Wants returns what image sets want, by key.
func (s *Runs) Wants(ctx context.Context) (map[string]string, error) { return s.Notes(ctx, wantsNote) }
