package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

const (
	// runBatch is how many digests, tags or sources one transaction stages, which pushes wait for.
	runBatch = 500

	// runSeen bounds how old the last access in the row of a run may be. The guard has the latest.
	runSeen = time.Minute
)

// content is a kind of content that a run asks for.
type content struct {
	name string
	// find returns a row for ?3, if it exists, and one for each required blob: digest and size of
	// a blob, whether the repository ?2 has it by itself or by the run ?1, and whether it is
	// staged for that repository.
	find  string
	stage func(r *Run, ctx context.Context, tx *sql.Tx, repo string, d digest.Digest) error
}

// A repository has a blob b that is visible there or staged for it. That another repository has it
// is not enough: to know a digest is not a right to the bytes.
const (
	blobStaged = `EXISTS (SELECT 1 FROM run_blobs p WHERE p.run = ?1 AND p.repository = ?2 AND p.digest = b.digest)`
	blobHere   = blobStaged + ` OR EXISTS (SELECT 1 FROM repositories r CROSS JOIN repository_blobs l
		WHERE r.name = ?2 AND l.repository = r.id AND l.digest = b.digest)`
	manifestStaged = `EXISTS (SELECT 1 FROM run_manifests p WHERE p.run = ?1 AND p.repository = ?2 AND p.digest = m.digest)`
	manifestHere   = manifestStaged + ` OR EXISTS (SELECT 1 FROM repositories r CROSS JOIN repository_manifests l
		WHERE r.name = ?2 AND l.repository = r.id AND l.digest = m.digest)`
)

func blobContent() content {
	return content{
		name:  "blob",
		find:  `SELECT b.digest, b.size, ` + blobHere + `, ` + blobStaged + ` FROM blobs b WHERE b.digest = ?3`,
		stage: (*Run).pin,
	}
}

func manifestContent() content {
	return content{
		name: "manifest",
		find: `SELECT '', 0, ` + manifestHere + `, ` + manifestStaged + ` FROM manifests m WHERE m.digest = ?3
			UNION ALL SELECT f.digest, coalesce(b.size, 0), b.digest IS NOT NULL AND (` + blobHere + `), TRUE
				FROM manifest_refs f LEFT JOIN blobs b ON b.digest = f.digest
				WHERE f.manifest = ?3 AND f.kind <> 'child' AND f.elsewhere = 0`,
		stage: (*Run).stageAgain,
	}
}

// Existing returns those of some blobs and manifests, both listed by the repository that they are
// for, that need not be put, in the order of the lists: they are visible there, or part of the run
// for that repository, and the files of blobs exist. They become part of the run. A manifest counts
// if its config and layers do: one that was pulled through without all of its layers does not, so
// the run has to fetch those. Children of an index are asked for one by one.
//
// Unconfirmed are the blobs that only other repositories have. Naming them gives no right to them:
// the run gets them by PutBlob, or by Confirm once the source of the repository has confirmed that
// it has them too.
//
// All is read first, so that only what exists and is not staged yet is written, in
// few transactions.
func (r *Run) Existing(ctx context.Context, blobs, manifests map[string][]digest.Digest) (
	haveBlobs, haveManifests, unconfirmed map[string][]digest.Digest, err error,
) {
	for _, ask := range []map[string][]digest.Digest{blobs, manifests} {
		for repo, ds := range ask {
			for _, d := range ds {
				if err := checkRepositoryAndDigest(repo, d); err != nil {
					return nil, nil, nil, err
				}
			}
		}
	}
	if err := r.alive(ctx); err != nil {
		return nil, nil, nil, err
	}
	whole := r.store.remembersFiles(ctx)
	if haveBlobs, unconfirmed, err = r.existingOf(ctx, blobContent(), blobs, whole); err != nil {
		return nil, nil, nil, err
	}
	if haveManifests, _, err = r.existingOf(ctx, manifestContent(), manifests, whole); err != nil {
		return nil, nil, nil, err
	}
	return haveBlobs, haveManifests, unconfirmed, nil
}

// alive records the last access of an open run, in its row only now and then.
func (r *Run) alive(ctx context.Context) error {
	var seen, committed int64
	err := r.store.db.Reader().QueryRowContext(ctx,
		`SELECT last_seen, committed FROM runs WHERE id = ?`, r.id).Scan(&seen, &committed)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("read run %s: %w", r.id, err)
	}
	now := r.store.now()
	if err != nil || committed != 0 || now.Sub(database.Time(seen)) >= runSeen {
		return r.share(ctx, func(context.Context, *sql.Tx) error { return nil }) // which returns the reason
	}
	r.store.guard.Runs.HeardOf(r.id, now)
	return nil
}

// wanted is content that a run asks for, and its repository.
type wanted struct {
	repo   string
	digest digest.Digest
}

// A wholeFunc reports whether the file of a blob exists and has the size in its row.
type wholeFunc func(d digest.Digest, size int64) (bool, error)

// remembersFiles returns a wholeFunc that checks each file once: images share layers.
func (s *core) remembersFiles(ctx context.Context) wholeFunc {
	known := map[digest.Digest]bool{}
	return func(d digest.Digest, size int64) (bool, error) {
		whole, ok := known[d]
		if ok {
			return whole, nil
		}
		err := s.blobs.Blob(d).Check(ctx, size)
		if err != nil && !blobstore.IsLoss(err) {
			return false, fmt.Errorf("look at blob %s: %w", d, err)
		}
		known[d] = err == nil
		return err == nil, nil
	}
}

// existingOf stages the content of ask that exists and returns it, and what only
// other repositories have.
func (r *Run) existingOf(
	ctx context.Context, c content, ask map[string][]digest.Digest, whole wholeFunc,
) (existing, unconfirmed map[string][]digest.Digest, err error) {
	var all []wanted
	for repo, ds := range ask {
		for _, d := range ds {
			all = append(all, wanted{repo, d})
		}
	}
	existing, unconfirmed = map[string][]digest.Digest{}, map[string][]digest.Digest{}
	for batch := range slices.Chunk(all, runBatch) {
		found, err := r.look(ctx, r.store.db.Reader(), c, batch, whole)
		if err == nil && !found.staged {
			found.here, err = r.stageExisting(ctx, c, found.here)
		}
		if err != nil {
			return nil, nil, err
		}
		for _, w := range found.here {
			existing[w.repo] = append(existing[w.repo], w.digest)
		}
		for _, w := range found.others {
			unconfirmed[w.repo] = append(unconfirmed[w.repo], w.digest)
		}
	}
	return existing, unconfirmed, nil
}

// findings are the content that the repositories have, and the content that only others have.
type findings struct {
	here, others []wanted
	staged       bool // all that exists is staged already
}

// look finds content that a run asks for. A nil whole checks no file.
func (r *Run) look(ctx context.Context, q database.Querier, c content, ask []wanted,
	whole wholeFunc) (found findings, err error) {
	found.staged = true
	for _, w := range ask {
		there, here, staged, err := r.find(ctx, q, c, w, whole)
		switch {
		case err != nil:
			return findings{}, fmt.Errorf("look for %s %s: %w", c.name, w.digest, err)
		case there && here:
			found.here = append(found.here, w)
			found.staged = found.staged && staged
		case there:
			found.others = append(found.others, w)
		}
	}
	return found, nil
}

// find reports whether one content exists with its files, whether its repository has all of it, and
// whether it is staged.
func (r *Run) find(
	ctx context.Context, q database.Querier, c content, w wanted, whole wholeFunc,
) (there, here, staged bool, err error) {
	here, staged = true, true
	lost := false
	err = database.Query(ctx, q, func(rows *sql.Rows) error {
		var blob digest.Digest
		var size int64
		var isHere, isStaged bool
		if err := rows.Scan(&blob, &size, &isHere, &isStaged); err != nil || lost {
			return err
		}
		there, here, staged = true, here && isHere, staged && isStaged
		if blob == "" || whole == nil {
			return nil
		}
		ok, err := whole(blob, size)
		lost = !ok
		return err
	}, c.find, r.id, w.repo, w.digest)
	return there && !lost, here, staged, err
}

// stageExisting stages the content of ask that still exists and returns it.
func (r *Run) stageExisting(ctx context.Context, c content, ask []wanted) (staged []wanted, err error) {
	err = r.share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		found, err := r.look(ctx, tx, c, ask, nil)
		if err != nil {
			return err
		}
		staged = found.here
		for _, w := range staged {
			if err := c.stage(r, ctx, tx, w.repo, w.digest); err != nil {
				return err
			}
		}
		return nil
	})
	return staged, err
}

// stageAgain stages an existing manifest with the media type of its link.
func (r *Run) stageAgain(ctx context.Context, tx *sql.Tx, repo string, d digest.Digest) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO run_manifests (run, repository, digest, media_type)
		SELECT ?1, ?2, ?3, coalesce((SELECT rm.media_type FROM repositories r
			CROSS JOIN repository_manifests rm ON rm.repository = r.id AND rm.digest = ?3 WHERE r.name = ?2), '')
		ON CONFLICT DO NOTHING`, r.id, repo, d)
	if err != nil {
		return fmt.Errorf("stage manifest %s: %w", d, err)
	}
	return nil
}

// Confirm stages blobs that other repositories have, by repository, without an upload. The caller
// asserts that the source of that repository has each of them, with that size: to know the digest
// of another repository's blob is not a right to it. It returns the staged ones; the others are to
// be put.
func (r *Run) Confirm(ctx context.Context, blobs map[string][]ocispec.Descriptor) (staged map[string][]digest.Digest, err error) {
	whole := r.store.remembersFiles(ctx)
	var all []confirmed
	for repo, descs := range blobs {
		for _, b := range descs {
			if err := checkRepositoryAndDigest(repo, b.Digest); err != nil {
				return nil, err
			}
			ok, err := whole(b.Digest, b.Size)
			if err != nil {
				return nil, err
			}
			if ok {
				all = append(all, confirmed{wanted{repo, b.Digest}, b.Size})
			}
		}
	}
	if err := r.alive(ctx); err != nil {
		return nil, err
	}
	staged = map[string][]digest.Digest{}
	for batch := range slices.Chunk(all, runBatch) {
		done, err := r.stageConfirmed(ctx, batch)
		if err != nil {
			return nil, err
		}
		for _, w := range done {
			staged[w.repo] = append(staged[w.repo], w.digest)
		}
	}
	return staged, nil
}

// confirmed is a blob that the source of a repository has.
type confirmed struct {
	wanted
	size int64
}

// stageConfirmed stages the blobs that exist with their confirmed size.
func (r *Run) stageConfirmed(ctx context.Context, blobs []confirmed) (staged []wanted, err error) {
	err = r.share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		staged = nil
		for _, b := range blobs {
			is, err := database.Exists(ctx, tx, `SELECT 1 FROM blobs WHERE digest = ? AND size = ?`, b.digest, b.size)
			if err != nil {
				return fmt.Errorf("look for blob %s: %w", b.digest, err)
			}
			if !is {
				continue
			}
			if err := r.pin(ctx, tx, b.repo, b.digest); err != nil {
				return err
			}
			staged = append(staged, b.wanted)
		}
		return nil
	})
	return staged, err
}
