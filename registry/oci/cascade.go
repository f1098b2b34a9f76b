package oci

import (
	"context"

	"github.com/opencontainers/go-digest"
)

// deleteWhole deletes a manifest with what belongs to it, and notes each further manifest that went.
func (m *manifests) deleteWhole(ctx context.Context, d digest.Digest) error {
	repo := m.name.Name()
	gone, err := m.store.DeleteImage(ctx, repo, d)
	if err != nil {
		return err
	}
	for _, other := range gone {
		if other != d {
			exchangeFrom(ctx).changed(change{event: "delete", repo: repo, digest: other})
		}
	}
	return nil
}
