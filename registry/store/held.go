package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	// heldBatch is how many digests become part of a run in one transaction, which pushes wait for.
	heldBatch = 500

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

func manifestContent() content {
	return content{
		name: "manifest",
		held: `SELECT 1 FROM manifests m WHERE m.digest = ?3 AND NOT EXISTS (
			SELECT 1 FROM manifest_refs f WHERE f.manifest = m.digest AND f.kind <> 'child' AND f.elsewhere = 0
			AND NOT EXISTS (SELECT 1 FROM blobs b WHERE b.digest = f.digest))`,
		staged: `SELECT 1 FROM run_manifests p WHERE p.run = ?1 AND p.repository = ?2 AND p.digest = ?3`,
		stage:  (*Run).stage,
	}
}

// HasBlob says whether a blob is held, wherever that is. If it is, it becomes part of the run.
func (r *Run) HasBlob(ctx context.Context, repo string, d digest.Digest) (bool, error) {
	held, _, err := r.Held(ctx, repo, []digest.Digest{d}, nil)
	return len(held) == 1, err
}

// HasManifest says whether a manifest is held with its config and layers, wherever that is. If it is, it
// becomes part of the run, to be shown in repo with the blobs it is made of. One that was pulled through
// and whose layers nobody has asked for yet is not: the run has to fetch those. Children of an index are
// asked for one by one.
func (r *Run) HasManifest(ctx context.Context, repo string, d digest.Digest) (bool, error) {
	_, held, err := r.Held(ctx, repo, nil, []digest.Digest{d})
	return len(held) == 1, err
}

// Held is HasBlob and HasManifest for many: it gives those of them that are held, in their order. They are
// read first, so that it writes, in few transactions, only what is held and not yet part of the run.
func (r *Run) Held(ctx context.Context, repo string, blobs, manifests []digest.Digest) (heldBlobs, heldManifests []digest.Digest, err error) {
	for _, ds := range [][]digest.Digest{blobs, manifests} {
		for _, d := range ds {
			if err := checkRepositoryAndDigest(repo, d); err != nil {
				return nil, nil, err
			}
		}
	}
	if err := r.alive(ctx); err != nil {
		return nil, nil, err
	}
	if heldBlobs, err = r.heldOf(ctx, repo, blobContent(), blobs); err != nil {
		return nil, nil, err
	}
	if heldManifests, err = r.heldOf(ctx, repo, manifestContent(), manifests); err != nil {
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

// heldOf gives those of ds that are held, and makes them part of the run.
func (r *Run) heldOf(ctx context.Context, repo string, c content, ds []digest.Digest) ([]digest.Digest, error) {
	held := []digest.Digest{}
	for len(ds) > 0 {
		batch := ds[:min(heldBatch, len(ds))]
		ds = ds[len(batch):]
		found, done, err := r.look(ctx, r.store.reader, repo, c, batch)
		if err == nil && !done {
			found, err = r.stageHeld(ctx, repo, c, found)
		}
		if err != nil {
			return nil, err
		}
		held = append(held, found...)
	}
	return held, nil
}

// look gives those of ds that are held, and says whether all of them are part of the run already.
func (r *Run) look(ctx context.Context, q querier, repo string, c content, ds []digest.Digest) (held []digest.Digest, staged bool, err error) {
	stmt, err := q.PrepareContext(ctx, `SELECT EXISTS (`+c.held+`), EXISTS (`+c.staged+`)`)
	if err != nil {
		return nil, false, fmt.Errorf("look for a %s: %w", c.name, err)
	}
	defer stmt.Close()
	staged = true
	for _, d := range ds {
		var isHeld, isStaged bool
		if err := stmt.QueryRowContext(ctx, r.id, repo, d).Scan(&isHeld, &isStaged); err != nil {
			return nil, false, fmt.Errorf("look for %s %s: %w", c.name, d, err)
		}
		if isHeld {
			held = append(held, d)
			staged = staged && isStaged
		}
	}
	return held, staged, nil
}

// stageHeld makes those of ds that are held still part of the run, and gives them.
func (r *Run) stageHeld(ctx context.Context, repo string, c content, ds []digest.Digest) (held []digest.Digest, err error) {
	err = r.share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		held, _, err = r.look(ctx, tx, repo, c, ds)
		if err != nil {
			return err
		}
		for _, d := range held {
			if err := c.stage(r, ctx, tx, repo, d); err != nil {
				return err
			}
		}
		return nil
	})
	return held, err
}
