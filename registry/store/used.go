package store

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// usesBatch is how many uses are written in one transaction, which pushes wait for.
const usesBatch = 1000

// use is a manifest of a repository.
type use struct {
	repository int64
	digest     digest.Digest
}

// uses remembers when pulled-through manifests were last asked for. A read must not cost a write, so they are
// saved together, at intervals; what a crash loses makes eviction choose a little worse. Their number is bounded
// by that of the manifests.
type uses struct {
	mu sync.Mutex
	at map[use]time.Time
}

func (u *uses) record(of use, t time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.at == nil {
		u.at = map[use]time.Time{}
	}
	u.at[of] = t
}

// take gives what is remembered, and forgets it.
func (u *uses) take() map[use]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	at := u.at
	u.at = nil
	return at
}

// saveUses writes down what was asked for since it was last called.
func (s *core) saveUses(ctx context.Context) error {
	at := s.uses.take()
	batch := make(map[use]time.Time, min(usesBatch, len(at)))
	for of, t := range at {
		batch[of] = t
		delete(at, of)
		if len(batch) < usesBatch && len(at) > 0 {
			continue
		}
		if err := s.db.Write(ctx, func(tx *sql.Tx) error { return writeUses(ctx, tx, batch) }); err != nil {
			return fmt.Errorf("write down what was pulled: %w", err)
		}
		clear(batch)
	}
	return nil
}

func writeUses(ctx context.Context, tx *sql.Tx, at map[use]time.Time) error {
	stmt, err := tx.PrepareContext(ctx, `UPDATE repository_manifests SET used = max(used, ?) WHERE repository = ? AND digest = ? AND pulled = 1`)
	if err != nil {
		return err
	}
	defer stmt.Close()
	for of, t := range at {
		if _, err := stmt.ExecContext(ctx, sqlite.Nanos(t), of.repository, of.digest); err != nil {
			return err
		}
	}
	return nil
}
