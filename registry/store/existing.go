package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

const (
	// runBatch is how many digests, tags or sources become part of a run in one transaction, which pushes wait for.
	runBatch = 500

	// runSeen is how far the row of a run may be behind in when it was last heard of. The guard knows better.
	runSeen = time.Minute
)

// content is a kind of thing that a run can be asked for.
type content struct {
	name string
	// find gives a row for ?3, if it exists, and one for each blob that it is made of: digest and size of a blob, whether the
	// repository ?2 has it by itself or by the run ?1, and whether it is part of the run for that repository.
	find  string
	stage func(r *Run, ctx context.Context, tx *sql.Tx, repo string, d digest.Digest) error
}

// A repository has a blob b where the blob is visible, and by a run that has staged it there. What
// another repository has is not enough: to know a digest is not a right to the bytes.
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
				WHERE f.manifest = ?3 AND f.kind <> 'child' AND NOT f.elsewhere`,
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
// All is read first, so that only what exists and is not staged yet is written, in few transactions.
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
	whole := r.store.remembersFiles()
	if haveBlobs, unconfirmed, err = r.existingOf(ctx, blobContent(), blobs, whole); err != nil {
		return nil, nil, nil, err
	}
	if haveManifests, _, err = r.existingOf(ctx, manifestContent(), manifests, whole); err != nil {
		return nil, nil, nil, err
	}
	return haveBlobs, haveManifests, unconfirmed, nil
}

// alive notes that an open run is alive, in its row only now and then.
func (r *Run) alive(ctx context.Context) error {
	var seen, committed int64
	err := r.store.db.Reader().QueryRowContext(ctx, `SELECT last_seen, committed FROM runs WHERE id = ?`, r.id).Scan(&seen, &committed)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("read run %s: %w", r.id, err)
	}
	now := r.store.now()
	if err != nil || committed != 0 || now.Sub(sqlite.Time(seen)) >= runSeen {
		return r.share(ctx, func(context.Context, *sql.Tx) error { return nil }) // and says what is wrong with it
	}
	r.store.guard.Runs.HeardOf(r.id, now)
	return nil
}

// wanted is something that a run is asked for, and the repository that it is wanted in.
type wanted struct {
	repo   string
	digest digest.Digest
}

// A wholeFunc reports whether the file of a blob exists and has the size in its row.
type wholeFunc func(d digest.Digest, size int64) (bool, error)

// remembersFiles is a wholeFunc that looks at each file once: images share layers.
func (s *core) remembersFiles() wholeFunc {
	known := map[digest.Digest]bool{}
	return func(d digest.Digest, size int64) (bool, error) {
		whole, ok := known[d]
		if ok {
			return whole, nil
		}
		err := s.files.Blob(d).Check(size)
		if err != nil && !blobfile.IsLoss(err) {
			return false, fmt.Errorf("look at blob %s: %w", d, err)
		}
		known[d] = err == nil
		return err == nil, nil
	}
}

// existingOf stages the content of ask that exists and returns it, and what only other repositories have.
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

// findings are what of some contents their repositories have, and what only others have.
type findings struct {
	here, others []wanted
	staged       bool // all that exists is staged already
}

// look finds out how it stands with what a run is asked for. Nil for whole looks at no file.
func (r *Run) look(ctx context.Context, q sqlite.Querier, c content, ask []wanted, whole wholeFunc) (found findings, err error) {
	stmt, err := q.PrepareContext(ctx, c.find)
	if err != nil {
		return findings{}, fmt.Errorf("look for a %s: %w", c.name, err)
	}
	defer stmt.Close()
	found.staged = true
	for _, w := range ask {
		there, here, staged, err := r.find(ctx, stmt, w, whole)
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

// find says of one content whether it exists, files and all, whether its repository has all of it, and whether it is part of
// the run.
func (r *Run) find(ctx context.Context, stmt *sql.Stmt, w wanted, whole wholeFunc) (there, here, staged bool, err error) {
	rows, err := stmt.QueryContext(ctx, r.id, w.repo, w.digest)
	if err != nil {
		return false, false, false, err
	}
	defer rows.Close()
	here, staged = true, true
	for rows.Next() {
		var blob digest.Digest
		var size int64
		var isHere, isStaged bool
		if err := rows.Scan(&blob, &size, &isHere, &isStaged); err != nil {
			return false, false, false, err
		}
		there, here, staged = true, here && isHere, staged && isStaged
		if blob == "" || whole == nil {
			continue
		}
		if ok, err := whole(blob, size); !ok || err != nil {
			return false, false, false, err
		}
	}
	return there, here, staged, rows.Err()
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

// stageAgain stages an existing manifest with the media type that the repository has declared.
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
