package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// GroupSize is how many writes share a transaction at most. The first of them
	// waits for the last.
	GroupSize = 64
	// groupTime is how long a transaction takes further writes. The cost of writes differs a
	// thousandfold, so that their number alone bounds nothing.
	groupTime = 50 * time.Millisecond
)

// ErrClosed is the error of a write that comes after Close.
var ErrClosed = errors.New("the store is closed")

// Group commits concurrent writes in one transaction, so that they wait for the disk once. Each
// runs under a savepoint of its own, but for the first, which the transaction is for: one that fails
// is rolled back alone. All are answered after the commit. A write of kind alone has a transaction
// of its own, and its turn like the others.
type Group struct {
	Now func() time.Time // measures the cost of writes
	// Conflict reports whether a transaction is to run again because another process changed what it
	// relies on. nil: no other process writes. What writes a row may run several times.
	Conflict func(error) bool

	writer *sql.DB
	ended  chan struct{}
	wake   chan struct{} // holds one token when there may be something in the queue

	mu     sync.Mutex // guards what follows
	queue  queue
	closed bool
	held   *hold // nil: writes do not wait
}

// shared is a queued write.
type shared struct {
	ctx    context.Context
	user   string
	came   uint64 // its position in the order of arrival
	alone  bool
	fn     func(ctx context.Context, tx *sql.Tx) error
	err    error
	answer chan error // takes one
}

// OpenGroup starts the goroutine, which Close ends.
func OpenGroup(writer *sql.DB) *Group {
	g := &Group{writer: writer, Now: time.Now, ended: make(chan struct{}), wake: make(chan struct{}, 1)}
	go func() {
		defer close(g.ended)
		for range g.wake {
			for g.begin() && g.next() {
			}
		}
	}()
	return g
}

// A hold has writes wait.
type hold struct {
	ctx   context.Context // when it ends, they fail
	ended chan struct{}   // when it is closed, they go on
}

// ErrHeld is the error of writes that wait when the context of Hold ends.
var ErrHeld = fmt.Errorf("the registry ends before writes were released: %w", context.Canceled)

// Hold has writes wait until release is called, and fail when ctx ends before.
func (g *Group) Hold(ctx context.Context) (release func()) {
	held := &hold{ctx: ctx, ended: make(chan struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = held
	return sync.OnceFunc(func() { close(held.ended) })
}

// begin waits for the end of a hold, and reports whether writes go on.
func (g *Group) begin() bool {
	g.mu.Lock()
	held := g.held
	g.mu.Unlock()
	if held == nil {
		return true
	}
	select {
	case <-held.ended:
		g.mu.Lock()
		defer g.mu.Unlock()
		g.held = nil
		return true
	case <-held.ctx.Done():
	}
	for w := g.take(true); w != nil; w = g.take(true) {
		w.answer <- ErrHeld
	}
	return false
}

// Close ends the group once the queue is written.
func (g *Group) Close() {
	g.mu.Lock()
	if !g.closed { // the first time
		g.closed = true
		close(g.wake)
	}
	g.mu.Unlock()
	<-g.ended
}

// Share runs fn in a transaction that it shares with concurrent ones. fn uses its own context, which
// does not end: an interrupted statement would roll back the whole transaction. When ctx ends
// before fn has begun, fn is not run.
func (g *Group) Share(ctx context.Context, fn func(ctx context.Context, tx *sql.Tx) error) error {
	return g.write(ctx, &shared{ctx: context.WithoutCancel(ctx), fn: fn})
}

// Write runs fn in a transaction of its own, which ends when ctx does.
func (g *Group) Write(ctx context.Context, fn func(tx *sql.Tx) error) error {
	alone := func(_ context.Context, tx *sql.Tx) error { return fn(tx) }
	return g.write(ctx, &shared{ctx: ctx, alone: true, fn: alone})
}

// Queued returns how many writes wait.
func (g *Group) Queued() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.queue.len()
}

// write queues a write and returns when it is answered.
func (g *Group) write(ctx context.Context, w *shared) error {
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

func (g *Group) enqueue(w *shared) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	g.queue.add(w)
	select {
	case g.wake <- struct{}{}:
	default:
	}
	return nil
}

// leave removes w from the queue and reports whether it was there.
func (g *Group) leave(w *shared) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.queue.remove(w)
}

// take returns the next write, and nil when none can join the transaction.
func (g *Group) take(first bool) *shared {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.queue.take(func(w *shared) bool { return first || !w.alone })
}

func (g *Group) charge(user string, cost time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue.charge(user, cost)
}

// next runs a transaction of queued writes, answers them, and reports whether there were any.
func (g *Group) next() bool {
	if g.Queued() == 0 {
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
	began := g.Now()
	err = commit(tx, err)
	for repeated := 1; repeated <= mostRepeats && g.conflict(err, members); repeated++ {
		time.Sleep(rand.N(time.Millisecond << repeated))
		err = g.repeat(ctx, members, repeated)
	}
	for _, w := range members {
		g.charge(w.user, g.Now().Sub(began)/time.Duration(len(members)))
	}
	for _, w := range members {
		if w.err == nil {
			w.err = err
		}
		w.answer <- w.err
	}
	return len(members) > 0
}

// commit ends a transaction whose writes ended with err.
func commit(tx *sql.Tx, err error) error {
	if err == nil {
		if err = tx.Commit(); err != nil {
			err = fmt.Errorf("commit transaction: %w", err)
		}
	}
	_ = tx.Rollback() // after Commit it does nothing
	return err
}

// conflict reports whether a transaction, or one of its writes, is to run again.
func (g *Group) conflict(err error, members []*shared) bool {
	if g.Conflict == nil {
		return false
	}
	for _, w := range members {
		if w.err != nil && g.Conflict(w.err) {
			return true
		}
	}
	return err != nil && g.Conflict(err)
}

const (
	// mostRepeats is how often a transaction runs again. It is enough, since soon no other runs.
	mostRepeats = 8
	// politeRepeats is how often it does while others run.
	politeRepeats = 2
)

// repeat runs the writes of a transaction again: the last times while no other process writes.
func (g *Group) repeat(ctx context.Context, members []*shared, repeated int) error {
	var options *sql.TxOptions
	if repeated > politeRepeats {
		options = &sql.TxOptions{Isolation: sql.LevelLinearizable}
	}
	tx, err := g.writer.BeginTx(ctx, options)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	for _, w := range members {
		w.err = nil
		if err = w.in(ctx, tx); err != nil {
			break
		}
	}
	return commit(tx, err)
}

// fill runs writes in a transaction, until there are no more or it is full. An error is that of the
// transaction.
func (g *Group) fill(ctx context.Context, tx *sql.Tx) (members []*shared, err error) {
	began := g.Now()
	for at := began; len(members) < GroupSize && at.Sub(began) < groupTime; {
		w := g.take(len(members) == 0)
		if w == nil {
			break
		}
		run := w.in
		if len(members) == 0 {
			run = w.first // most transactions have one write, for which a server would be asked twice more
		}
		members = append(members, w)
		err = run(ctx, tx)
		ended := g.Now()
		g.charge(w.user, ended.Sub(at))
		at = ended
		if err != nil || w.alone {
			break
		}
	}
	return members, err
}

// in runs a write in a transaction. An error is that of the transaction.
func (w *shared) in(ctx context.Context, tx *sql.Tx) error {
	if !w.alone {
		return w.run(ctx, tx)
	}
	return w.first(ctx, tx)
}

// first runs a write before which its transaction has no other.
func (w *shared) first(_ context.Context, tx *sql.Tx) error {
	if err := w.fn(w.ctx, tx); err != nil || !w.alone {
		return err
	}
	return w.ctx.Err()
}

// run runs a write under its savepoint, and keeps its error in w.err. The error that it returns
// means that the transaction is lost: on a full disk, for example, SQLite rolls back all of it.
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
