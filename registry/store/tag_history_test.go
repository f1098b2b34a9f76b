package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// tagMove is one change of a tag.
type tagMove struct {
	Was, Became digest.Digest // "" when the tag did not exist, or no longer does
	Run         string        // "" for a push or a delete
	Moved       time.Time
}

// history lists the moves of a tag, the latest first. Only tests read them: a
// rollback reads those of a run.
func (s *Tags) history(ctx context.Context, repo, tag string) ([]tagMove, error) {
	if err := image.CheckRepository(repo); err != nil {
		return nil, err
	}
	var moves []tagMove
	scan := func(rows *sql.Rows) error {
		var m tagMove
		var moved int64
		err := rows.Scan(&m.Was, &m.Became, &m.Run, &moved)
		m.Moved = sqlite.Time(moved)
		moves = append(moves, m)
		return err
	}
	err := sqlite.Query(ctx, s.db.Reader(), scan, `SELECT h.was, h.became, h.run, h.moved FROM tag_history h
		JOIN repositories r ON r.id = h.repository WHERE r.name = ? AND h.name = ? ORDER BY h.id DESC`, repo, tag)
	if err != nil {
		return nil, fmt.Errorf("read history of tag %s: %w", tag, err)
	}
	return moves, nil
}
