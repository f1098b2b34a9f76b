package admin_test

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/desttest"
	"github.com/mirror-appliance/appliance/registry/store"
)

func TestRun_isDestination(t *testing.T) {
	desttest.Run(t, func(t *testing.T) desttest.Place {
		f := serve(t)
		return desttest.Place{
			Begin: func(ctx context.Context) (mirror.Destination, error) { return f.client.BeginSync(ctx, "test") },
			Manifest: func(ctx context.Context, repo, ref string) ([]byte, error) {
				m, err := f.store.Manifests.ByTag(ctx, repo, ref)
				if d, errDigest := digest.Parse(ref); errDigest == nil {
					m, err = f.store.Manifests.Get(ctx, repo, d)
				}
				if errors.Is(err, store.ErrNotFound) {
					return nil, fs.ErrNotExist
				}
				return m.Body, err
			},
		}
	})
}
