package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// GroupSize is how many writes share a transaction at most. The first of them waits for the last.
	GroupSize = 64
	// groupTime is how long a transaction takes further writes. The cost of writes differs a thousandfold, so that their
	// number alone bounds nothing.
	groupTime = 50 * time.Millisecond
)

// errClosed is the error of a write after Close.
var errClosed = errors.New("the store is closed")

// group commits writes that come at the same time in one transaction, so that they wait for the disk once. Each runs
// under a savepoint of its own: one that fails is rolled back alone. All are answered after the commit, so that
// acknowledged means durable. A write that is alone has a transaction of its own, and its turn like the others.
type group struct {
	writer *sql.DB
	now    func() time.Time // measures the cost of writes
	ended  chan struct{}
	wake   chan struct{} // holds one token when there may be something in the queue

	mu     sync.Mutex // guards what follows
	queue  queue
	closed bool
}

// shared is a write that waits for its group.
type shared struct {
	ctx    context.Context
	user   string
	came   uint64 // its position in the order of arrival
	alone  bool
	fn     func(ctx context.Context, tx *sql.Tx) error
	err    error
	answer chan error // takes one
}

// openGroup starts the goroutine, which close ends.
func openGroup(writer *sql.DB) *group {
	g := &group{writer: writer, now: time.Now, ended: make(chan struct{}), wake: make(chan struct{}, 1)}
	go func() {
		defer close(g.ended)
		for range g.wake {
			for g.next() {
			}
		}
	}()
	return g
}

// close ends the group once the queue is written.
func (g *group) close() {
	g.mu.Lock()
	if !g.closed { // the first time
		g.closed = true
		close(g.wake)
	}
	g.mu.Unlock()
	<-g.ended
}

// share runs fn in a transaction of the group and returns when that is on disk. fn's context does not end: a statement
// that is interrupted would roll back the whole transaction. When ctx ends before fn has begun, fn is not run.
func (g *group) share(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error {
	return g.write(ctx, &shared{ctx: context.WithoutCancel(ctx), fn: fn})
}

// alone runs fn in a transaction of its own, which ends when ctx does.
func (g *group) alone(ctx context.Context, fn func(tx *sql.Tx) error) error {
	return g.write(ctx, &shared{ctx: ctx, alone: true, fn: func(_ context.Context, tx *sql.Tx) error { return fn(tx) }})
}

func (g *group) write(ctx context.Context, w *shared) error {
	w.user, w.answer = User(ctx), make(chan error, 1)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := g.enqueue(w); err != nil {
		return err
	}
	select {
	case err := <-w.answer:
		return err
	case <-ctx.Done():
	}
	if g.leave(w) {
		return ctx.Err()
	}
	return <-w.answer
}

func (g *group) enqueue(w *shared) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return errClosed
	}
	g.queue.add(w)
	select {
	case g.wake <- struct{}{}:
	default:
	}
	return nil
}

// leave removes w from the queue and reports whether it was still there.
func (g *group) leave(w *shared) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.queue.remove(w)
}

func (g *group) empty() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.queue.len() == 0
}

// take returns the write whose turn it is, and nil when there is none that can join the transaction.
func (g *group) take(first bool) *shared {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.queue.take(func(w *shared) bool { return first || !w.alone })
}

func (g *group) charge(user string, cost time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue.charge(user, cost)
}

// next writes a transaction of what is in the queue, answers its writes, and reports whether there were any.
func (g *group) next() bool {
	if g.empty() {
		return false
	}
	ctx := context.Background()
	tx, err := g.writer.BeginTx(ctx, nil) // before a write is taken: one that still waits may leave
	if err != nil {
		w := g.take(true)
		if w != nil {
			w.answer <- fmt.Errorf("begin transaction: %w", err)
		}
		return w != nil
	}
	members, err := g.fill(ctx, tx)
	began := g.now()
	if err == nil {
		if err = tx.Commit(); err != nil {
			err = fmt.Errorf("commit transaction: %w", err)
		}
	}
	_ = tx.Rollback() // after Commit it does nothing
	for _, w := range members {
		g.charge(w.user, g.now().Sub(began)/time.Duration(len(members)))
	}
	for _, w := range members {
		if w.err == nil {
			w.err = err
		}
		w.answer <- w.err
	}
	return len(members) > 0
}

// fill runs writes in a transaction, until there are no more or it is full. An error is the transaction's.
func (g *group) fill(ctx context.Context, tx *sql.Tx) (members []*shared, err error) {
	began := g.now()
	for at := began; len(members) < GroupSize && at.Sub(began) < groupTime; {
		w := g.take(len(members) == 0)
		if w == nil {
			break
		}
		members = append(members, w)
		if w.alone {
			if err = w.fn(w.ctx, tx); err == nil {
				err = w.ctx.Err()
			}
		} else {
			err = w.run(ctx, tx)
		}
		ended := g.now()
		g.charge(w.user, ended.Sub(at))
		at = ended
		if err != nil || w.alone {
			break
		}
	}
	return members, err
}

// run runs a write under its savepoint, and keeps the write's error in w.err. The error that it returns means that the
// transaction is lost: SQLite rolls back the whole of it when the disk is full, say.
func (w *shared) run(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, "SAVEPOINT one"); err != nil {
		return fmt.Errorf("begin write: %w", err)
	}
	w.err = w.fn(w.ctx, tx)
	end := "RELEASE one"
	if w.err != nil {
		end = "ROLLBACK TO one; RELEASE one"
	}
	if _, err := tx.ExecContext(ctx, end); err != nil {
		return fmt.Errorf("the transaction that this write shared is lost: %w", errors.Join(w.err, err))
	}
	return nil
}
