package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// hold keeps the writer for itself until the function it returns is called, so that writes queue up.
func (f *fixture) hold() (release func()) {
	f.t.Helper()
	tx, err := f.writer.BeginTx(f.ctx, nil)
	f.must(err)
	f.t.Cleanup(func() { _ = tx.Rollback() }) // when a test fails before it releases: Close would wait for ever
	return func() { f.must(tx.Rollback()) }
}

// queued waits until so many writes are in the queue of the group.
func (f *fixture) queued(n int) {
	f.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		f.group.mu.Lock()
		have := f.group.queue.len()
		f.group.mu.Unlock()
		if have == n {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("%d writes are queued, want %d", have, n)
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func insertSecret(name string) func(context.Context, *sql.Tx) error {
	return func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO secrets (name, value) VALUES (?, x'00')`, name)
		return err
	}
}

// secrets says which secrets there are, in order.
func (f *fixture) secrets() string {
	f.t.Helper()
	var names string
	f.must(f.reader.QueryRow(`SELECT coalesce(group_concat(name, ' ' ORDER BY name), '') FROM secrets`).Scan(&names))
	return names
}

// shareAll queues writes in order behind a held writer, lets them go, and gives what each returned.
func (f *fixture) shareAll(writes ...func(context.Context, *sql.Tx) error) []error {
	f.t.Helper()
	release := f.hold()
	errs := make([]error, len(writes))
	var wg sync.WaitGroup
	for i, fn := range writes {
		wg.Go(func() { errs[i] = f.share(f.ctx, fn) })
		f.queued(i + 1)
	}
	release()
	wg.Wait()
	return errs
}

func TestGroup_SharesOneCommit(t *testing.T) {
	f := newFixture(t)
	var commits []int64
	var writes []func(context.Context, *sql.Tx) error
	for i := range 8 {
		writes = append(writes, func(ctx context.Context, tx *sql.Tx) error {
			// What other connections see changes with each commit, and so does this.
			var version int64
			if err := f.reader.QueryRow(`SELECT count(*) FROM secrets`).Scan(&version); err != nil {
				return err
			}
			commits = append(commits, version)
			return insertSecret(fmt.Sprint(i))(ctx, tx)
		})
	}
	for i, err := range f.shareAll(writes...) {
		if err != nil {
			t.Errorf("write %d: %v", i, err)
		}
	}
	for _, seen := range commits {
		if seen != 0 {
			t.Fatalf("a write saw %d of the others committed: they did not share a transaction", seen)
		}
	}
	if got := f.secrets(); got != "0 1 2 3 4 5 6 7" {
		t.Errorf("written: %s", got)
	}
}

func TestGroup_AWriteThatFailsTakesBackItsOwn(t *testing.T) {
	f := newFixture(t)
	broken := errors.New("broken")
	errs := f.shareAll(
		insertSecret("a"),
		func(ctx context.Context, tx *sql.Tx) error {
			return errors.Join(insertSecret("b")(ctx, tx), broken)
		},
		insertSecret("a"), // a constraint that fails
		insertSecret("c"),
	)
	if errs[0] != nil || errs[3] != nil || !errors.Is(errs[1], broken) || errs[2] == nil {
		t.Errorf("got %v", errs)
	}
	if got := f.secrets(); got != "a c" {
		t.Errorf("written: %s", got)
	}
}

// When SQLite rolls back the transaction itself, nobody in it is told that his write is there.
func TestGroup_LostTransaction(t *testing.T) {
	f := newFixture(t)
	errs := f.shareAll(
		insertSecret("a"),
		func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `ROLLBACK`)
			return err
		},
		insertSecret("c"), // comes after, in a transaction of its own
	)
	if errs[0] == nil || errs[1] == nil || errs[2] != nil {
		t.Errorf("got %v", errs)
	}
	if got := f.secrets(); got != "c" {
		t.Errorf("written: %s", got)
	}
}

func TestGroup_WhoeverLeavesInTimeIsNotWritten(t *testing.T) {
	f := newFixture(t)
	release := f.hold()
	ctx, cancel := context.WithCancel(f.ctx)
	left, stayed := make(chan error, 1), make(chan error, 1)
	go func() { left <- f.share(ctx, insertSecret("left")) }()
	f.queued(1)
	go func() { stayed <- f.share(f.ctx, insertSecret("stayed")) }()
	f.queued(2)
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) { // while the writer is held still
		t.Errorf("got %v", err)
	}
	release()
	f.must(<-stayed)
	if got := f.secrets(); got != "stayed" {
		t.Errorf("written: %s", got)
	}
	if err := f.share(ctx, insertSecret("late")); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: got %v", err)
	}
}

// A statement that is interrupted takes the whole transaction with it, so none is.
func TestGroup_CancellingOneDoesNotHurtTheOthers(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	release := f.hold()
	errs := make([]error, 2)
	var wg sync.WaitGroup
	wg.Go(func() { errs[0] = f.share(f.ctx, insertSecret("a")) })
	f.queued(1)
	wg.Go(func() {
		errs[1] = f.share(ctx, func(inner context.Context, tx *sql.Tx) error {
			cancel()
			return insertSecret("b")(inner, tx)
		})
	})
	f.queued(2)
	release()
	wg.Wait()
	if errs[0] != nil || errs[1] != nil { // it had begun, so it is done
		t.Errorf("got %v", errs)
	}
	if got := f.secrets(); got != "a b" {
		t.Errorf("written: %s", got)
	}
}

func TestGroup_EndsWithTheStore(t *testing.T) {
	f := newFixture(t)
	s := f.Store
	release := f.hold()
	queued := make(chan error, 1)
	go func() { queued <- s.share(f.ctx, insertSecret("queued")) }()
	f.queued(1)
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	release()
	f.must(<-queued)
	f.must(<-closed)
	if err := s.share(f.ctx, insertSecret("late")); !errors.Is(err, errClosed) {
		t.Errorf("got %v", err)
	}
	if err := s.Close(); err == nil { // it says so, and does not panic
		t.Error("closed twice, and nobody minded")
	}
	f.Store = nil
	f.reopen()
	if got := f.secrets(); got != "queued" {
		t.Errorf("written: %s", got)
	}
}

// 64 clients push small images, delete some of them and pull, while collection runs all the time. None
// gets an error, and what was acknowledged and not deleted is there, with its blobs.
func TestStore_ManyPushersDeletesAndCollection(t *testing.T) {
	f := newFixture(t)
	ctx, stop := context.WithCancel(f.ctx)
	var collector, clients sync.WaitGroup
	var began [pushers]atomic.Int64 // when each client began what it is pushing
	oldest := func() time.Time {    // the latest that a grace period may end
		first := nanos(f.clock.now())
		for i := range began {
			first = min(first, began[i].Load())
		}
		return fromNanos(first)
	}
	for p := range began {
		began[p].Store(nanos(f.clock.now()))
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
				began[p].Store(nanos(f.clock.add(time.Second)))
				name := fmt.Sprint("v", p, ".", i)
				repo := fmt.Sprint("app", p%4)
				d, err := smallImage(f.ctx, f.Store, repo, name)
				if err == nil && i%3 == 0 {
					err = f.DeleteManifest(f.ctx, repo, d)
				} else if err == nil {
					_, err = f.ManifestByTag(f.ctx, repo, name)
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
		if m, err := f.ManifestByTag(f.ctx, repo, tag); err != nil || m.Digest != d {
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
	err := s.GarbageBlobs(ctx, before, func(d digest.Digest, _ int64) error { plan = append(plan, d); return nil })
	if err != nil {
		return err
	}
	_, _, err = s.RemoveBlobs(ctx, before, plan)
	return err
}
