package backup

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// countdown is a context that ends when it has been looked at so many times: a test that counts on
// from 1 stops a call at every step that it can be stopped at.
type countdown struct {
	context.Context
	end context.CancelFunc

	mu   sync.Mutex
	left int
}

func newCountdown(ctx context.Context, looks int) *countdown {
	ctx, end := context.WithCancel(ctx)
	return &countdown{Context: ctx, end: end, left: looks}
}

func (c *countdown) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left == 0 {
		c.end()
	}
}

func (c *countdown) Done() <-chan struct{} {
	c.look()
	return c.Context.Done()
}

func (c *countdown) Err() error {
	c.look()
	return c.Context.Err()
}

// TestCreate_stoppedAtEveryStep: whenever it is stopped, the backup that is there can be restored,
// and is the one from before unless the new one is complete.
func TestCreate_stoppedAtEveryStep(t *testing.T) {
	for _, name := range []string{"backup", "backup.tar"} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			old := f.pushImage("app", "old", "v1")
			to := filepath.Join(t.TempDir(), name)
			f.backup(to, Options{})
			f.must(f.Manifests.Delete(f.ctx, "app", old.Digest))
			f.collect(f.clock.add(48 * time.Hour))
			f.pushImage("app", "new", "v1")

			steps := 0
			for done := false; !done; {
				steps++
				ctx := newCountdown(f.ctx, steps)
				_, err := f.create(ctx, to, Options{}) // without pruning: that comes when the new one is in place
				ctx.end()
				if done = err == nil; !done && !errors.Is(err, context.Canceled) {
					t.Fatalf("stopped at step %d: %v", steps, err)
				}
				if done || steps%8 == 0 { // a restore takes much longer than a step
					g := restoredOpen(t, to)
					g.mustHave("app", "v1")
					m, err := g.Manifests.ByTag(g.ctx, "app", "v1")
					g.must(err)
					if is := m.Digest == old.Digest; is == done {
						t.Errorf("stopped at step %d (done: %v), the backup is the old one: %v", steps, done, is)
					}
					g.close()
				}
			}
			if steps < 20 {
				t.Errorf("it took only %d steps", steps)
			}
			t.Logf("%d steps", steps)
		})
	}
}

// TestRestore_stoppedAtEveryStep: whenever it is stopped, there is no store or the whole one, and
// it can be called again.
func TestRestore_stoppedAtEveryStep(t *testing.T) {
	f := newFixture(t)
	f.pushImage("app", "app", "v1")
	to := filepath.Join(t.TempDir(), "backup")
	f.backup(to, Options{})
	g := emptyFixture(t)
	for steps := 1; ; steps++ {
		ctx := newCountdown(f.ctx, steps)
		err := g.restore(ctx, to)
		ctx.end()
		if err == nil {
			t.Logf("%d steps", steps)
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("stopped at step %d: %v", steps, err)
		}
		if left, err := filepath.Glob(filepath.Join(g.dir, "appliance.db*")); err != nil || len(left) != 1 { // the lock
			t.Fatalf("stopped at step %d, there is %v", steps, left)
		}
	}
	g.reopen()
	g.mustHave("app", "v1")
	g.mustBeClean()
	g.close()
}
