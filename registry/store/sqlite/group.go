package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
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

var errClosed = errors.New("the store is closed")

// group commits concurrent writes in one transaction, so that they wait for the disk once. Each
// runs under a savepoint of its own: one that fails is rolled back alone. All are answered after
// the commit. A write of kind alone has a transaction of its own, and its turn like the others.
type group struct {
	writer *sql.DB
	now    func() time.Time // measures the cost of writes
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

// openGroup starts the goroutine, which close ends.
func openGroup(writer *sql.DB) *group {
	g := &group{writer: writer, now: time.Now, ended: make(chan struct{}), wake: make(chan struct{}, 1)}
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

var errHeld = fmt.Errorf("the registry ends before writes were released: %w", context.Canceled)

// hold has writes wait until release is called, and fail when ctx ends before.
func (g *group) hold(ctx context.Context) (release func()) {
	held := &hold{ctx: ctx, ended: make(chan struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = held
	return sync.OnceFunc(func() { close(held.ended) })
}

// begin waits for the end of a hold, and reports whether writes go on.
func (g *group) begin() bool {
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
		w.answer <- errHeld
	}
	return false
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

// write queues a write and returns when it is answered. When ctx ends before fn has
// begun, fn is not run.
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

// leave removes w from the queue and reports whether it was there.
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

// take returns the next write, and nil when none can join the transaction.
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

// next runs a transaction of queued writes, answers them, and reports whether there were any.
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

// fill runs writes in a transaction, until there are no more or it is full. An error is that of the
// transaction.
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

type userKey struct{}

// WithUser returns a context whose writes count as those of a user: users take turns at the one
// writer. Without it they count as those of the daemon.
func WithUser(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, userKey{}, name)
}

// User returns the user of WithUser.
func User(ctx context.Context) string {
	name, _ := ctx.Value(userKey{}).(string)
	return name
}

// queue holds the writes that wait, by user. The user with the least served time, which is the
// writer's time for it, is next: a write waits for those of its own user, and for one of each
// other. A user without waiting writes starts at the served time of the last turn, so that missed
// turns do not count.
type queue struct {
	lines map[string]*line
	came  uint64        // how many writes have come
	start time.Duration // the served time of the user taken last, before its turn
}

// line holds the writes of one user in order.
type line struct {
	served time.Duration
	writes []*shared
}

func (q *queue) add(w *shared) {
	if q.lines == nil {
		q.lines = map[string]*line{}
	}
	l := q.lines[w.user]
	if l == nil {
		l = &line{}
		q.lines[w.user] = l
	}
	if len(l.writes) == 0 {
		l.served = max(l.served, q.start)
	}
	q.came++
	w.came = q.came
	l.writes = append(l.writes, w)
}

// take returns the next write if may accepts it, and nil otherwise. An empty queue forgets its
// users.
func (q *queue) take(may func(*shared) bool) *shared {
	var next *line
	for _, l := range q.lines {
		if len(l.writes) > 0 && (next == nil || l.served < next.served ||
			l.served == next.served && l.writes[0].came < next.writes[0].came) {
			next = l
		}
	}
	if next == nil {
		q.lines, q.start = nil, 0
		return nil
	}
	w := next.writes[0]
	if !may(w) {
		return nil
	}
	next.writes = slices.Delete(next.writes, 0, 1)
	q.start = next.served
	return w
}

func (q *queue) charge(user string, cost time.Duration) {
	if l := q.lines[user]; l != nil {
		l.served += cost
	}
}

func (q *queue) remove(w *shared) bool {
	l := q.lines[w.user]
	if l == nil {
		return false
	}
	i := slices.Index(l.writes, w)
	if i < 0 {
		return false
	}
	l.writes = slices.Delete(l.writes, i, i+1)
	return true
}

func (q *queue) len() (n int) {
	for _, l := range q.lines {
		n += len(l.writes)
	}
	return n
}
