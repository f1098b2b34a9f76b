package store

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/desttest"
)

func TestRun_isDestination(t *testing.T) {
	desttest.Run(t, func(t *testing.T) desttest.Place {
		f := newFixture(t)
		return desttest.Place{
			Begin: func(ctx context.Context) (mirror.Destination, error) { return f.Runs.Begin(ctx, "test") },
			Manifest: func(ctx context.Context, repo, ref string) ([]byte, error) {
				m, err := f.Manifests.ByTag(ctx, repo, ref)
				if d, errDigest := digest.Parse(ref); errDigest == nil {
					m, err = f.Manifests.Get(ctx, repo, d)
				}
				if errors.Is(err, ErrNotFound) {
					return nil, fs.ErrNotExist
				}
				return m.Body, err
			},
		}
	})
}
