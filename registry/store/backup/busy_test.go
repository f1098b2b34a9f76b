package backup

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store"
)

// TestStore_integrity_whileItServes backs up, verifies and scrubs a store while images are
// pushed to it and deleted, and everything is collected at once. Every backup is whole, and
// nothing is ever seen as damage.
func TestStore_integrity_whileItServes(t *testing.T) {
	f := newFixture(t)
	f.pushImage("stays", "stays", "v1")
	linked, copied := t.TempDir(), otherFileSystem(t)
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, stop := context.WithCancel(f.ctx)
	defer stop()
	for worker := range 3 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				churn(ctx, t, f.Store, fmt.Sprint("app", worker), fmt.Sprintf("%d.%d", worker, i%5))
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			f.collect(f.clock.add(time.Minute)) // no grace at all
		}
	})

	for i := range 3 {
		for _, to := range []string{linked, copied, filepath.Join(copied, fmt.Sprint(i, ".tar"))} {
			if _, err := f.create(f.ctx, to, Options{Prune: true}); err != nil {
				t.Errorf("back up to %s: %v", to, err)
				continue
			}
			g := restoredOpen(t, to)
			g.mustHave("stays", "v1")
			g.mustBeClean()
			g.close()
		}
		f.mustBeClean()
		f.must(f.Integrity().Blobs(f.ctx, "", func(d digest.Digest, _ int64) error {
			damage, err := f.Integrity().ScrubBlob(f.ctx, d, throttle.New(0))
			if damage != "" {
				t.Errorf("%s: %s", d, damage)
			}
			return err
		}))
	}
	stop()
	wg.Wait()
	f.mustBeClean()
}

// churn pushes an image and deletes it. With no grace, its blobs may be gone before
// its manifest comes.
func churn(ctx context.Context, t *testing.T, s *store.Store, repo, name string) {
	m, err := push(ctx, s, repo, name, name)
	if err == nil {
		err = s.Manifests.Delete(ctx, repo, m.Digest)
	}
	var missing *store.MissingError
	if err != nil && !errors.As(err, &missing) && ctx.Err() == nil {
		t.Errorf("push %s: %v", name, err)
	}
}
