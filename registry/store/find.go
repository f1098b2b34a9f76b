package store

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
)

// maxFound is in how many repositories FindBlob looks for a blob. A blob that is in more is one that every image has,
// and small.
const maxFound = 100

// Find returns a repository to which a blob was pushed or mounted and that may accepts, ErrNotFound if there is
// none. MountBlob decides whether the blob is there.
func (s *Blobs) Find(ctx context.Context, d digest.Digest, may func(repo string) bool) (string, error) {
	if err := image.CheckDigest(d); err != nil {
		return "", err
	}
	rows, err := s.db.Reader().QueryContext(ctx, `SELECT r.name FROM repository_blobs b JOIN repositories r ON r.id = b.repository
		WHERE b.digest = ? LIMIT ?`, d, maxFound)
	if err != nil {
		return "", fmt.Errorf("find blob %s: %w", d, err)
	}
	defer rows.Close()
	for rows.Next() {
		var repo string
		if err := rows.Scan(&repo); err != nil {
			return "", fmt.Errorf("find blob %s: %w", d, err)
		}
		if may(repo) {
			return repo, nil
		}
	}
	if err := rows.Err(); err != nil {
		return "", fmt.Errorf("find blob %s: %w", d, err)
	}
	return "", &NotFoundError{Kind: "blob", Name: d.String()}
}
