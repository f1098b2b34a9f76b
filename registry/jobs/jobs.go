// Package jobs runs the long work of the daemon: collections, scrubs, verifications, mirror runs.
//
// Use a [Runner] for each kind. It runs one at a time, on request ([Runner.Run]), on its own
// ([Runner.Start]) or by schedule ([Runner.Schedule]); tells the progress; ends the work when the
// daemon drains; and counts for metrics. A [Note] keeps over restarts what a kind of work
// remembers. The work itself, its request, progress and result are the caller's types.
//
// Refused: a queue, since the second request mostly asks for work that is under way; and a scheduler
// library with cron expressions, since intervals since the last success hold across restarts.
package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	// startDelay is how long a started daemon leaves the disk to its clients before scheduled work.
	startDelay = 15 * time.Minute
	// again is the longest wait after a failure of scheduled work.
	again = 24 * time.Hour
	// startLimit bounds how long Start waits to learn whether another daemon does the work.
	startLimit = 10 * time.Second
)

// ErrStopping is the error of work that was ended, or not begun, because the daemon is draining.
var ErrStopping = errors.New("the registry is stopping")

// ErrCancelled is the error of work that Stop has ended.
var ErrCancelled = errors.New("it was cancelled")

// BusyError reports that work of the kind is under way.
type BusyError struct {
	Name string
	Host string // of the daemon that does it; "": this one
}

func (e *BusyError) Error() string {
	if e.Host != "" {
		return fmt.Sprintf("a %s is under way already, by the daemon on host %s", e.Name, e.Host)
	}
	return fmt.Sprintf("a %s is under way already", e.Name)
}

// Alone is what work has alone among the daemons of a store.
type Alone interface {
	// Within returns a context that ends with ctx, and when the work is not alone any more.
	Within(ctx context.Context) (context.Context, context.CancelFunc)
	Release()
}

// Kind is a kind of work: Q asks for it, P is its progress, R its result.
type Kind[Q, P, R any] struct {
	Name string // of one, such as scrub
	// Run does the work until ctx ends. It may call progress often.
	Run func(ctx context.Context, q Q, progress func(P)) (R, error)
	// DryRun reports whether a request changes nothing. Such work is not counted.
	// nil: all is counted.
	DryRun func(Q) bool
	// Waits has Run wait for the work under way, and then work: of a kind whose work is short, and not
	// the same after what has changed meanwhile.
	Waits bool
	// Alone has the work of the kind be alone among the daemons of the store, until Release, or returns a
	// *BusyError. nil: it need not be, or there is one daemon.
	Alone func(ctx context.Context) (Alone, error)

	// Interval is what Schedule leaves between a success and the next work; 0: it never works.
	Interval time.Duration
	// Next has when that is, for all daemons of the store; nil: there is one.
	Next *Note[time.Time]

	LastSuccess time.Time        // of an earlier process; zero: unknown
	Latest      func() time.Time // the last success of any daemon of the store; nil: there is one
	Drain       context.Context  // ends when work must end
	Log         *slog.Logger
}

// Stats describes the work of a kind since the process started.
type Stats struct {
	Running        bool
	Runs, Failures int64     // without dry runs; work that was stopped is not a failure
	LastSuccess    time.Time // also of an earlier process; zero: unknown
}

// Runner runs work of one kind. It is safe for concurrent use.
type Runner[Q, P, R any] struct {
	kind    Kind[Q, P, R]
	started sync.WaitGroup // what Start began
	// succeeded has an entry after a success, for Schedule.
	succeeded chan struct{}

	mu       sync.Mutex // guards what follows
	progress *P         // nil: nothing was told yet
	stats    Stats
	ended    chan struct{} // closed when the work under way ends
	alone    Alone         // of the work under way; nil: none
	next     time.Time     // of scheduled work; zero: none waits for its time

	cancelled context.Context // of the work under way: ends at Stop
	cancel    context.CancelFunc
}

// New returns a Runner.
func New[Q, P, R any](kind Kind[Q, P, R]) *Runner[Q, P, R] {
	return &Runner[Q, P, R]{kind: kind, stats: Stats{LastSuccess: kind.LastSuccess}, succeeded: make(chan struct{}, 1)}
}

// Run works, and returns the result. It returns a *BusyError if work is under way, unless the kind
// waits, and ErrStopping if the daemon drains. progress may be nil.
func (r *Runner[Q, P, R]) Run(ctx context.Context, q Q, progress func(P)) (R, error) {
	work, err := r.Begin(ctx)
	if err != nil {
		var none R
		return none, err
	}
	return work(ctx, q, progress)
}

// Begin is the first half of Run, for a caller that acts once it is certain that the work begins. The
// function that it returns is the other half, and must be called.
func (r *Runner[Q, P, R]) Begin(ctx context.Context) (work func(ctx context.Context, q Q, progress func(P)) (R, error), err error) {
	for {
		err := r.begin(ctx)
		var busy *BusyError
		if r.kind.Waits && errors.As(err, &busy) {
			if err = r.await(ctx, busy.Host != ""); err == nil {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		return r.work, nil
	}
}

// awaitEvery is how often it is tried to begin while another daemon works.
const awaitEvery = time.Second

// await waits for the work under way, or for the next try if another daemon does it.
func (r *Runner[Q, P, R]) await(ctx context.Context, elsewhere bool) error {
	r.mu.Lock()
	ended := r.ended
	r.mu.Unlock()
	var again <-chan time.Time
	if elsewhere { // ended is of the try that failed
		ended, again = nil, time.After(awaitEvery)
	}
	select {
	case <-ended:
		return nil
	case <-again:
		return nil
	case <-r.kind.Drain.Done():
		return ErrStopping
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Start begins work that goes on without its caller. Its errors are those of Run before the work
// begins.
func (r *Runner[Q, P, R]) Start(q Q) error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	if err := r.begin(ctx); err != nil {
		return err
	}
	r.started.Go(func() {
		_, _ = r.work(context.Background(), q, nil) // which logs
	})
	return nil
}

// Wait waits for work that Start began.
func (r *Runner[Q, P, R]) Wait() { r.started.Wait() }

// Stop ends the work under way, if there is any, with ErrCancelled. It does not wait for the end.
func (r *Runner[Q, P, R]) Stop() (running bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stats.Running {
		r.cancel()
	}
	return r.stats.Running
}

// Next returns when scheduled work is to begin, at any daemon; zero: it has begun, or there is no schedule.
func (r *Runner[Q, P, R]) Next() (at time.Time) {
	if r.kind.Next != nil {
		if shared := r.kind.Next.Get(); shared != nil {
			at = *shared
		}
		return at
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next
}

// Progress returns the progress of the work under way, or nil.
func (r *Runner[Q, P, R]) Progress() *P {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.progress
}

// Stats returns the counts.
func (r *Runner[Q, P, R]) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// Schedule works an interval after each success until ctx ends, also after one of work on request, at whichever daemon
// that was. It repeats failed work after a day if the interval is longer.
func (r *Runner[Q, P, R]) Schedule(ctx context.Context, q Q) error {
	interval := r.kind.Interval
	if interval == 0 {
		r.setNext(ctx, time.Time{}) // of another configuration
		return nil
	}
	wait := max(r.due(time.Now(), interval), min(interval, startDelay))
	timer := time.NewTimer(wait)
	defer timer.Stop()
	r.arm(ctx, timer, wait)
	defer r.keepNext(time.Time{}) // the daemon that takes over writes the note anew
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.succeeded:
			if wait = r.due(time.Now(), interval); wait <= 0 {
				continue // it is older than the timer
			}
		case <-timer.C:
			if wait = min(time.Until(r.Next()), interval); wait > 0 {
				break // another daemon has put it off
			}
			r.setNext(ctx, time.Time{})
			_, err := r.Run(ctx, q, nil)
			if errors.As(err, new(*BusyError)) {
				r.kind.Log.Info("scheduled job skipped", "job", r.kind.Name, "reason", err)
			}
			if wait = r.due(time.Now(), interval); wait <= 0 {
				wait = min(interval, again)
			}
		}
		r.arm(ctx, timer, wait)
	}
}

// arm has a timer of Schedule end after wait, and tells when that is.
func (r *Runner[Q, P, R]) arm(ctx context.Context, timer *time.Timer, wait time.Duration) {
	next := time.Now().Add(wait) // not later than the timer, which would take that for work that was put off
	timer.Reset(wait)
	r.setNext(ctx, next)
}

// setNext tells, to other daemons as well, when scheduled work is to begin.
func (r *Runner[Q, P, R]) setNext(ctx context.Context, at time.Time) {
	r.keepNext(at)
	if r.kind.Next == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, noteTime)
	defer cancel()
	if at.IsZero() {
		r.kind.Next.Remove(ctx)
	} else {
		r.kind.Next.Set(ctx, at)
	}
}

func (r *Runner[Q, P, R]) keepNext(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next = at
}

// putOff puts scheduled work off after a success here, which the daemon that does it finds out when it is about to begin.
func (r *Runner[Q, P, R]) putOff() {
	if r.kind.Next != nil && r.kind.Interval > 0 && !r.Next().IsZero() {
		r.setNext(context.Background(), time.Now().Add(r.kind.Interval))
	}
}

// due returns the time until the next scheduled work. The last may have ended while the clock was
// ahead.
func (r *Runner[Q, P, R]) due(now time.Time, interval time.Duration) time.Duration {
	last := r.Stats().LastSuccess
	if r.kind.Latest != nil {
		if other := r.kind.Latest(); other.After(last) {
			last = other
		}
	}
	if last.IsZero() {
		return 0
	}
	return min(last.Add(interval).Sub(now), interval)
}

// begin claims the work for this process, and then among the daemons of the store.
func (r *Runner[Q, P, R]) begin(ctx context.Context) error {
	if err := r.claim(); err != nil || r.kind.Alone == nil {
		return err
	}
	alone, err := r.kind.Alone(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.alone = alone; err != nil {
		r.alone = nil
		r.end()
	}
	return err
}

// end is called with mu held.
func (r *Runner[Q, P, R]) end() {
	r.stats.Running, r.progress = false, nil
	close(r.ended)
	r.cancel()
}

func (r *Runner[Q, P, R]) claim() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.kind.Drain.Err() != nil:
		return ErrStopping
	case r.stats.Running:
		return &BusyError{Name: r.kind.Name}
	}
	r.stats.Running, r.ended = true, make(chan struct{})
	r.cancelled, r.cancel = context.WithCancel(context.Background())
	return nil
}

func (r *Runner[Q, P, R]) work(ctx context.Context, q Q, progress func(P)) (R, error) {
	ctx, cancel := Until(ctx, r.kind.Drain)
	defer cancel()
	ctx, end := r.untilStopped(ctx)
	defer end()
	alone := r.alone // set before work, and not again until it ends
	if alone != nil {
		within, leave := alone.Within(ctx)
		defer leave()
		ctx = within
	}
	began := time.Now()
	result, err := r.kind.Run(ctx, q, func(p P) {
		r.mu.Lock()
		r.progress = &p
		r.mu.Unlock()
		if progress != nil {
			progress(p)
		}
	})
	stopped, cause := err != nil && ctx.Err() != nil, context.Cause(ctx)
	if alone != nil {
		alone.Release()
	}
	log := r.kind.Log.With("job", r.kind.Name, "took", time.Since(began).Round(time.Millisecond))
	switch {
	case stopped:
		log.Info("job stopped half way", "reason", cause)
		if errors.Is(cause, ErrStopping) || errors.Is(cause, ErrCancelled) {
			err = cause
		}
	case err != nil:
		log.Error("job failed", "error", err)
	}
	counts := r.kind.DryRun == nil || !r.kind.DryRun(q)
	if counts && err == nil {
		r.putOff()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end()
	if !counts {
		return result, err
	}
	r.stats.Runs++
	switch {
	case err == nil:
		r.stats.LastSuccess = time.Now()
		select {
		case r.succeeded <- struct{}{}:
		default: // Schedule has not looked at the one before, and will find this one
		}
	case !stopped:
		r.stats.Failures++
	}
	return result, err
}

// untilStopped returns a context that ends with ctx, and at Stop with ErrCancelled for the cause.
func (r *Runner[Q, P, R]) untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return until(ctx, r.cancelled, ErrCancelled)
}

// Until returns a context that ends with ctx, and with drain for the cause ErrStopping.
func Until(ctx, drain context.Context) (context.Context, context.CancelFunc) {
	return until(ctx, drain, ErrStopping)
}

// until returns a context that ends with ctx, and with other for a cause.
func until(ctx, other context.Context, cause error) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(other, func() { cancel(cause) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}
