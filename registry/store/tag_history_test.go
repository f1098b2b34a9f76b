package store

import (
	"context"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// tagMove is one change of a tag.
type tagMove struct {
	Was, Became digest.Digest // "" when the tag did not exist, or no longer does
	Run         string        // "" for a push or a delete
	Moved       time.Time
}

// history lists the moves of a tag, the latest first.
func (s *Tags) history(ctx context.Context, repo, tag string) ([]tagMove, error) {
	all, err := s.Moves(ctx, repo, tag)
	var moves []tagMove
	for _, m := range slices.Backward(all) {
		moves = append(moves, tagMove{m.Was, m.Became, m.Run.ID, m.Moved})
	}
	return moves, err
}
