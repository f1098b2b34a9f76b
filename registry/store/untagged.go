package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// RemoveUntagged removes the images of a repository that nothing keeps there, neither a tag nor an
// index nor a subject, if they were put before a time. Of other repositories they are kept: an image
// may be pulled by its digest.
func (s *Garbage) RemoveUntagged(ctx context.Context, repo string, before time.Time) (removed int, err error) {
	id, err := repositoryID(ctx, s.db.Reader(), repo)
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	var old []digest.Digest
	if err == nil {
		old, err = listOld(ctx, s.db.Reader(), id, before)
	}
	for _, d := range old {
		if err == nil {
			err = s.removeOrphan(ctx, id, d)
		}
		if err == nil {
			removed++
		}
		if errors.Is(err, ErrNotFound) {
			err = nil
		}
	}
	if err != nil {
		err = fmt.Errorf("remove untagged images of %s: %w", repo, err)
	}
	return removed, err
}

func listOld(ctx context.Context, q database.Querier, id int64, before time.Time) ([]digest.Digest, error) {
	old, err := database.Column[digest.Digest](ctx, q, `SELECT digest FROM repository_manifests WHERE repository = ? AND linked < ?`, id, database.Nanos(before))
	if err != nil {
		return nil, err
	}
	return listDigests(ctx, q, orphans, id, old)
}

// removeOrphan removes an image, unless a tag names it by now: ErrNotFound.
func (s *core) removeOrphan(ctx context.Context, id int64, d digest.Digest) error {
	r := removal{store: s, whole: true}
	err := s.db.ShareFreeing(ctx, func(ctx context.Context, tx *sql.Tx) error {
		still, err := listDigests(ctx, tx, orphans, id, []digest.Digest{d})
		if err == nil && len(still) == 0 {
			err = &NotFoundError{Kind: "manifest", Name: d.String()}
		}
		if err != nil {
			return err
		}
		return r.begin(ctx, tx, id, d)
	})
	if err == nil && r.left {
		err = r.finish(ctx)
	}
	return err
}
