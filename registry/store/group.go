package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// groupSize is how many writes share a transaction at most. The first of them waits for the last.
const groupSize = 64

// errClosed is for a write that comes after Close.
var errClosed = errors.New("the store is closed")

// group commits writes that come at the same time in one transaction, so that they wait for the disk once.
// Each runs under a savepoint of its own: one that fails takes back what it did itself, and no more. All
// are answered after the commit, so that acknowledged means durable here too.
//
// Its goroutine begins with open and ends with close.
type group struct {
	writer *sql.DB
	ended  chan struct{}
	wake   chan struct{} // holds one token when there may be something in the queue

	mu     sync.Mutex // guards what follows
	queue  []*shared
	closed bool
}

// shared is a write that waits for its group.
type shared struct {
	ctx    context.Context
	fn     func(ctx context.Context, tx *sql.Tx) error
	err    error
	answer chan error // takes one
}

func openGroup(writer *sql.DB) *group {
	g := &group{writer: writer, ended: make(chan struct{}), wake: make(chan struct{}, 1)}
	go func() {
		defer close(g.ended)
		for range g.wake {
			for g.next() {
			}
		}
	}()
	return g
}

// close ends the group, once what is in the queue is written.
func (g *group) close() {
	g.mu.Lock()
	if !g.closed { // the first time
		g.closed = true
		close(g.wake)
	}
	g.mu.Unlock()
	<-g.ended
}

// write runs fn in the transaction of a group and returns when that is on disk. fn's context does not end: a
// statement that is interrupted would take the transaction of all others with it. When ctx ends before
// fn has begun, it is not run.
func (g *group) write(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error {
	w := &shared{ctx: ctx, fn: fn, answer: make(chan error, 1)}
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
	if err := w.ctx.Err(); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return errClosed
	}
	g.queue = append(g.queue, w)
	select {
	case g.wake <- struct{}{}:
	default:
	}
	return nil
}

// leave takes w out of the queue and says whether it was still there.
func (g *group) leave(w *shared) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.queue, w)
	if i < 0 {
		return false
	}
	g.queue = slices.Delete(g.queue, i, i+1)
	return true
}

// take gives the first of the queue, nil when there is none.
func (g *group) take() *shared {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) == 0 {
		return nil
	}
	w := g.queue[0]
	g.queue = slices.Delete(g.queue, 0, 1)
	return w
}

// next writes what is in the queue as one transaction and answers all of it. It says whether there was any.
func (g *group) next() bool {
	ctx := context.Background()
	tx, err := g.writer.BeginTx(ctx, nil) // before anything is taken: whoever still waits may leave
	if err != nil {
		w := g.take()
		if w != nil {
			w.answer <- fmt.Errorf("begin transaction: %w", err)
		}
		return w != nil
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	var members []*shared
	for w := g.take(); w != nil; w = g.take() {
		members = append(members, w)
		if err = w.run(ctx, tx); err != nil || len(members) == groupSize {
			break
		}
	}
	if err == nil {
		if err = tx.Commit(); err != nil {
			err = fmt.Errorf("commit transaction: %w", err)
		}
	}
	for _, w := range members {
		if w.err == nil {
			w.err = err
		}
		w.answer <- w.err
	}
	return len(members) > 0
}

// run runs a write under its savepoint. The error it returns is the transaction's, which is lost: SQLite
// itself rolls back the whole of it when the disk is full, say. That of the write alone is in w.err.
func (w *shared) run(ctx context.Context, tx *sql.Tx) error {
	if _, err := tx.ExecContext(ctx, "SAVEPOINT one"); err != nil {
		return fmt.Errorf("begin write: %w", err)
	}
	w.err = w.fn(context.WithoutCancel(w.ctx), tx)
	end := "RELEASE one"
	if w.err != nil {
		end = "ROLLBACK TO one; RELEASE one"
	}
	if _, err := tx.ExecContext(ctx, end); err != nil {
		return fmt.Errorf("the transaction that this write shared is lost: %w", errors.Join(w.err, err))
	}
	return nil
}
