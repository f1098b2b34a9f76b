package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// shareAll queues writes in order behind a held writer, lets them go, and gives what each returned.
func (f *fixture) shareAll(writes ...func(context.Context, *sql.Tx) error) []error {
	f.t.Helper()
	release := f.hold()
	errs := make([]error, len(writes))
	var wg sync.WaitGroup
	for i, fn := range writes {
		wg.Go(func() { errs[i] = f.Share(f.ctx, fn) })
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
			if err := f.reader.QueryRow(`SELECT count(*) FROM notes`).Scan(&version); err != nil {
				return err
			}
			commits = append(commits, version)
			return insertNote(fmt.Sprint(i))(ctx, tx)
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
	if got := f.notes(); got != "0 1 2 3 4 5 6 7" {
		t.Errorf("written: %s", got)
	}
}

func TestGroup_Hold(t *testing.T) {
	for name, released := range map[string]bool{"released": true, "never": false} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			ctx, end := context.WithCancel(f.ctx)
			release := f.Hold(ctx)
			left, leave := context.WithCancel(f.ctx)
			leave()
			if err := f.Share(left, insertNote("left")); !errors.Is(err, context.Canceled) {
				t.Errorf("a client that left: %v", err)
			}
			answers := make(chan error)
			go func() { answers <- f.Share(f.ctx, insertNote("a")) }()
			f.queued(1)
			if got := f.notes(); got != "" {
				t.Errorf("written while held: %s", got)
			}
			if !released {
				end()
				for range 2 {
					if err := <-answers; !errors.Is(err, database.ErrHeld) {
						t.Errorf("got %v", err)
					}
					go func() { answers <- f.Share(f.ctx, insertNote("late")) }()
				}
				<-answers
				return
			}
			release()
			release() // again
			end()
			if err := <-answers; err != nil {
				t.Error(err)
			}
			if err := f.Share(f.ctx, insertNote("b")); err != nil {
				t.Error(err)
			}
			if got := f.notes(); got != "a b" {
				t.Errorf("written: %s", got)
			}
		})
	}
}

func TestGroup_AWriteThatFailsTakesBackItsOwn(t *testing.T) {
	f := newFixture(t)
	broken := errors.New("broken")
	errs := f.shareAll(
		insertNote("a"),
		func(ctx context.Context, tx *sql.Tx) error {
			return errors.Join(insertNote("b")(ctx, tx), broken)
		},
		insertNote("a"), // a constraint that fails
		insertNote("c"),
	)
	if errs[0] != nil || errs[3] != nil || !errors.Is(errs[1], broken) || errs[2] == nil {
		t.Errorf("got %v", errs)
	}
	if got := f.notes(); got != "a c" {
		t.Errorf("written: %s", got)
	}
}

// When SQLite rolls back the transaction itself, every write in it fails.
func TestGroup_LostTransaction(t *testing.T) {
	f := newFixture(t)
	errs := f.shareAll(
		insertNote("a"),
		func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `ROLLBACK`)
			return err
		},
		insertNote("c"), // comes after, in a transaction of its own
	)
	if errs[0] == nil || errs[1] == nil || errs[2] != nil {
		t.Errorf("got %v", errs)
	}
	if got := f.notes(); got != "c" {
		t.Errorf("written: %s", got)
	}
}

func TestGroup_WhoeverLeavesInTimeIsNotWritten(t *testing.T) {
	f := newFixture(t)
	release := f.hold()
	ctx, cancel := context.WithCancel(f.ctx)
	left, stayed := make(chan error, 1), make(chan error, 1)
	go func() { left <- f.Share(ctx, insertNote("left")) }()
	f.queued(1)
	go func() { stayed <- f.Share(f.ctx, insertNote("stayed")) }()
	f.queued(2)
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) { // while the writer is held still
		t.Errorf("got %v", err)
	}
	release()
	f.must(<-stayed)
	if got := f.notes(); got != "stayed" {
		t.Errorf("written: %s", got)
	}
	if err := f.Share(ctx, insertNote("late")); !errors.Is(err, context.Canceled) {
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
	wg.Go(func() { errs[0] = f.Share(f.ctx, insertNote("a")) })
	f.queued(1)
	wg.Go(func() {
		errs[1] = f.Share(ctx, func(inner context.Context, tx *sql.Tx) error {
			cancel()
			return insertNote("b")(inner, tx)
		})
	})
	f.queued(2)
	release()
	wg.Wait()
	if errs[0] != nil || errs[1] != nil { // it had begun, so it is done
		t.Errorf("got %v", errs)
	}
	if got := f.notes(); got != "a b" {
		t.Errorf("written: %s", got)
	}
}

func TestGroup_EndsWithTheStore(t *testing.T) {
	f := newFixture(t)
	db := f.DB
	release := f.hold()
	queued := make(chan error, 1)
	go func() { queued <- db.Share(f.ctx, insertNote("queued")) }()
	f.queued(1)
	closed := make(chan error, 1)
	go func() { closed <- db.Close() }()
	release()
	f.must(<-queued)
	f.must(<-closed)
	if err := db.Share(f.ctx, insertNote("late")); !errors.Is(err, database.ErrClosed) {
		t.Errorf("got %v", err)
	}
	f.must(db.Close()) // a second time
	f.DB = nil
	f.reopen()
	if got := f.notes(); got != "queued" {
		t.Errorf("written: %s", got)
	}
}
