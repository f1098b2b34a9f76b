package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	// runBatch is how many digests, tags or sources become part of a run in one transaction, which pushes wait for.
	runBatch = 500

	// runSeen is how far the row of a run may be behind in when it was last heard of. The guard knows better.
	runSeen = time.Minute
)

// content is a kind of thing that a run can be asked for.
type content struct {
	name   string
	held   string // whether ?3 is held
	staged string // whether ?3 is part of the run ?1 for the repository ?2
	stage  func(r *Run, ctx context.Context, tx *sql.Tx, repo string, d digest.Digest) error
}

func blobContent() content {
	return content{
		name:   "blob",
		held:   `SELECT 1 FROM blobs b WHERE b.digest = ?3`,
		staged: `SELECT 1 FROM run_blobs p WHERE p.run = ?1 AND p.repository = ?2 AND p.digest = ?3`,
		stage:  (*Run).pin,
	}
}

// typedHere says of a manifest whose body names no media type that the repository or the run has one for it. What
// another repository declared it as does not count.
const typedHere = `EXISTS (SELECT 1 FROM repositories r CROSS JOIN repository_manifests rm
		WHERE r.name = ?2 AND rm.repository = r.id AND rm.digest = ?3)
	OR EXISTS (SELECT 1 FROM run_manifests p WHERE p.run = ?1 AND p.repository = ?2 AND p.digest = ?3)`

func manifestContent() content {
	return content{
		name: "manifest",
		held: `SELECT 1 FROM manifests m WHERE m.digest = ?3 AND (m.media_type <> '' OR ` + typedHere + `) AND NOT EXISTS (
			SELECT 1 FROM manifest_refs f WHERE f.manifest = m.digest AND f.kind <> 'child' AND f.elsewhere = 0
			AND NOT EXISTS (SELECT 1 FROM blobs b WHERE b.digest = f.digest))`,
		staged: `SELECT 1 FROM run_manifests p WHERE p.run = ?1 AND p.repository = ?2 AND p.digest = ?3`,
		stage:  (*Run).stageAgain,
	}
}

// Held gives those of some blobs and manifests, both listed by the repository that they are wanted in, that are held,
// wherever that is, in the order they are listed in. They become part of the run: blobs as they are, manifests to be shown
// in the repository with the blobs they are made of. A manifest is held if its config and layers are: one that was
// pulled through and whose layers nobody has asked for yet is not, so the run has to fetch those. Children of an
// index are asked for one by one.
//
// All is read first, so that it writes, in few transactions, only what is held and not yet part of the run.
func (r *Run) Held(ctx context.Context, blobs, manifests map[string][]digest.Digest) (heldBlobs, heldManifests map[string][]digest.Digest, err error) {
	for _, ask := range []map[string][]digest.Digest{blobs, manifests} {
		for repo, ds := range ask {
			for _, d := range ds {
				if err := checkRepositoryAndDigest(repo, d); err != nil {
					return nil, nil, err
				}
			}
		}
	}
	if err := r.alive(ctx); err != nil {
		return nil, nil, err
	}
	if heldBlobs, err = r.heldOf(ctx, blobContent(), blobs); err != nil {
		return nil, nil, err
	}
	if heldManifests, err = r.heldOf(ctx, manifestContent(), manifests); err != nil {
		return nil, nil, err
	}
	return heldBlobs, heldManifests, nil
}

// alive notes that an open run is alive, in its row only now and then.
func (r *Run) alive(ctx context.Context) error {
	var seen, committed int64
	err := r.store.reader.QueryRowContext(ctx, `SELECT last_seen, committed FROM runs WHERE id = ?`, r.id).Scan(&seen, &committed)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("read run %s: %w", r.id, err)
	}
	now := r.store.now()
	if err != nil || committed != 0 || now.Sub(fromNanos(seen)) >= runSeen {
		return r.share(ctx, func(context.Context, *sql.Tx) error { return nil }) // and says what is wrong with it
	}
	r.store.guard.heardOf(r.id, now)
	return nil
}

// wanted is something that a run is asked for, and the repository that it is wanted in.
type wanted struct {
	repo   string
	digest digest.Digest
}

// heldOf gives those of ask that are held, and makes them part of the run.
func (r *Run) heldOf(ctx context.Context, c content, ask map[string][]digest.Digest) (map[string][]digest.Digest, error) {
	var all []wanted
	for repo, ds := range ask {
		for _, d := range ds {
			all = append(all, wanted{repo, d})
		}
	}
	held := map[string][]digest.Digest{}
	for batch := range slices.Chunk(all, runBatch) {
		found, done, err := r.look(ctx, r.store.reader, c, batch)
		if err == nil && !done {
			found, err = r.stageHeld(ctx, c, found)
		}
		if err != nil {
			return nil, err
		}
		for _, w := range found {
			held[w.repo] = append(held[w.repo], w.digest)
		}
	}
	return held, nil
}

// look gives those of ask that are held, and says whether all of them are part of the run already.
func (r *Run) look(ctx context.Context, q querier, c content, ask []wanted) (held []wanted, staged bool, err error) {
	stmt, err := q.PrepareContext(ctx, `SELECT EXISTS (`+c.held+`), EXISTS (`+c.staged+`)`)
	if err != nil {
		return nil, false, fmt.Errorf("look for a %s: %w", c.name, err)
	}
	defer stmt.Close()
	staged = true
	for _, w := range ask {
		var isHeld, isStaged bool
		if err := stmt.QueryRowContext(ctx, r.id, w.repo, w.digest).Scan(&isHeld, &isStaged); err != nil {
			return nil, false, fmt.Errorf("look for %s %s: %w", c.name, w.digest, err)
		}
		if isHeld {
			held = append(held, w)
			staged = staged && isStaged
		}
	}
	return held, staged, nil
}

// stageHeld makes those of ask that are held still part of the run, and gives them.
func (r *Run) stageHeld(ctx context.Context, c content, ask []wanted) (held []wanted, err error) {
	err = r.share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		held, _, err = r.look(ctx, tx, c, ask)
		if err != nil {
			return err
		}
		for _, w := range held {
			if err := c.stage(r, ctx, tx, w.repo, w.digest); err != nil {
				return err
			}
		}
		return nil
	})
	return held, err
}

// stageAgain makes a manifest that is held part of the run, as what the repository has declared it.
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
