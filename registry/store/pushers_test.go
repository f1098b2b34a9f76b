package store

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// 64 clients push small images, delete some of them and pull, while collection runs all the time.
// None gets an error, and what was acknowledged and not deleted is there, with its blobs.
func TestStore_ManyPushersDeletesAndCollection(t *testing.T) {
	f := newFixture(t)
	ctx, stop := context.WithCancel(f.ctx)
	var collector, clients sync.WaitGroup
	var began [pushers]atomic.Int64 // when each client began what it is pushing
	oldest := func() time.Time {    // the latest that a grace period may end
		first := database.Nanos(f.clock.now())
		for i := range began {
			first = min(first, began[i].Load())
		}
		return database.Time(first)
	}
	for p := range began {
		began[p].Store(database.Nanos(f.clock.now()))
	}
	collector.Go(func() {
		for ctx.Err() == nil {
			if err := collectOlder(f.ctx, f.Store, oldest()); err != nil {
				t.Errorf("collect: %v", err)
			}
		}
	})
	var mu sync.Mutex
	kept := map[string]digest.Digest{}
	for p := range pushers {
		clients.Go(func() {
			for i := range 8 {
				began[p].Store(database.Nanos(f.clock.add(time.Second)))
				name := fmt.Sprint("v", p, ".", i)
				repo := fmt.Sprint("app", p%4)
				d, err := smallImage(f.ctx, f.Store, repo, name)
				if err == nil && i%3 == 0 {
					err = f.Manifests.Delete(f.ctx, repo, d)
				} else if err == nil {
					_, err = f.Manifests.ByTag(f.ctx, repo, name)
					mu.Lock()
					kept[repo+":"+name] = d
					mu.Unlock()
				}
				if err != nil {
					t.Errorf("%s:%s: %v", repo, name, err)
				}
			}
			began[p].Store(math.MaxInt64)
		})
	}
	clients.Wait()
	stop()
	collector.Wait()
	f.must(collectOlder(f.ctx, f.Store, f.clock.add(time.Hour)))
	f.verify()
	for name, d := range kept {
		repo, tag, _ := strings.Cut(name, ":")
		if m, err := f.Manifests.ByTag(f.ctx, repo, tag); err != nil || m.Digest != d {
			t.Errorf("%s was acknowledged as %s: %s, %v", name, d, m.Digest, err)
		}
	}
	if n, err := f.Stats(f.ctx); err != nil || n.Manifests != int64(len(kept)) || n.Blobs != 2*n.Manifests {
		t.Errorf("of %d images: %+v, %v", len(kept), n, err)
	}
}

// collectOlder plans and executes a collection.
func collectOlder(ctx context.Context, s *Store, before time.Time) error {
	var plan []digest.Digest
	err := s.Garbage.GarbageBlobs(ctx, before, func(d digest.Digest, _ int64) error { plan = append(plan, d); return nil })
	if err != nil {
		return err
	}
	_, _, err = s.Garbage.RemoveBlobs(ctx, before, plan)
	return err
}
