package role

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// grace is how long changes under way may go on when the appliance ceases to take them. What then has
// not ended is cancelled.
const grace = 5 * time.Second

// ReadOnlyError refuses a change of content.
type ReadOnlyError struct {
	Role  Role
	First string // the address to write to; "" if it is not known
}

func (e *ReadOnlyError) Error() string {
	switch {
	case e.Role == Follower && e.First != "":
		return fmt.Sprintf("this appliance follows https://%s and is read-only", e.First)
	case e.First != "":
		return fmt.Sprintf("this appliance is read-only: https://%s has taken its place", e.First)
	}
	return "this appliance is read-only: another is about to take its place"
}

// Hint returns what to do instead.
func (e *ReadOnlyError) Hint() string {
	if e.Role == Follower {
		return fmt.Sprintf("change it at %s; if that is gone, an administrator of this host has it take changes: appliance promote", e.First)
	}
	if e.First == "" {
		return "repeat appliance promote on the other host, or have this one take changes again: appliance promote"
	}
	return "change it at " + e.First + "; to have this appliance be a copy of that: " + api.FollowCommand(e.First)
}

// ReadOnly tells the error from others in packages that do not know this one.
func (e *ReadOnlyError) ReadOnly() {}

// RefusalOf returns the error with which a state refuses changes, or nil.
func RefusalOf(s State) error {
	switch {
	case s.Role == Follower:
		return &ReadOnlyError{Follower, s.First.Address}
	case s.Role == Superseded && s.Known.ID == s.ID:
		return &ReadOnlyError{Superseded, ""}
	case s.Role == Superseded:
		return &ReadOnlyError{Superseded, s.Known.Address}
	}
	return nil
}

// gate is what each change of content passes.
type gate struct {
	mu      sync.Mutex    // guards the rest
	heard   chan struct{} // closed once the others were asked after the start; nil: they are not asked
	refusal error         // nil: open
	under   int           // changes under way
	idle    *sync.Cond
	open    context.Context // ends when changes under way are cancelled
	cancel  context.CancelCauseFunc
}

func newGate() *gate {
	g := &gate{}
	g.idle = sync.NewCond(&g.mu)
	g.open, g.cancel = context.WithCancelCause(context.Background())
	return g
}

// set opens the gate, or closes it by a refusal.
func (g *gate) set(refusal error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refusal = refusal
	if refusal == nil && g.open.Err() != nil {
		g.open, g.cancel = context.WithCancelCause(context.Background())
	}
}

// shut closes the gate, and returns when no change is under way.
func (g *gate) shut(refusal error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refusal = refusal
	late := time.AfterFunc(grace, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.cancel(refusal)
	})
	defer late.Stop()
	for g.under > 0 {
		g.idle.Wait()
	}
}

// ask ends the wait of changes for what the others know.
func (g *gate) ask() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.heard != nil {
		close(g.heard)
		g.heard = nil
	}
}

func (g *gate) enter() (context.Context, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refusal != nil {
		return nil, g.refusal
	}
	g.under++
	return g.open, nil
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.under--; g.under == 0 {
		g.idle.Broadcast()
	}
}

// Check returns a *ReadOnlyError if changes of content are refused. After the start it waits until the
// followers were asked.
func (f *Family) Check(ctx context.Context) error {
	f.gate.mu.Lock()
	heard, refusal := f.gate.heard, f.gate.refusal
	f.gate.mu.Unlock()
	if heard == nil {
		return refusal
	}
	select {
	case <-heard:
		f.gate.mu.Lock()
		defer f.gate.mu.Unlock()
		return f.gate.refusal
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Ask has changes wait until Talk, which must follow, has asked the others once.
func (f *Family) Ask() {
	f.gate.mu.Lock()
	defer f.gate.mu.Unlock()
	f.gate.heard = make(chan struct{})
}

type entered struct{}

// Enter begins a change of content, which leave must end: until then the role does not cease to take
// changes. The change uses the context. A change within another enters once. The error is that of Check.
func (f *Family) Enter(ctx context.Context) (within context.Context, leave func(), err error) {
	if ctx.Value(entered{}) != nil {
		return ctx, func() {}, nil
	}
	if err := f.Check(ctx); err != nil {
		return ctx, func() {}, err
	}
	open, err := f.gate.enter()
	if err != nil {
		return ctx, func() {}, err
	}
	ctx, cancel := context.WithCancelCause(f.guard(context.WithValue(ctx, entered{}, true)))
	stop := context.AfterFunc(open, func() { cancel(context.Cause(open)) })
	var once sync.Once
	return ctx, func() {
		once.Do(func() {
			stop()
			cancel(nil)
			f.gate.leave()
		})
	}, nil
}

// Do changes content by change.
func (f *Family) Do(ctx context.Context, change func(context.Context) error) error {
	ctx, leave, err := f.Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	err = change(ctx)
	if refused := new(ReadOnlyError); err != nil && errors.As(context.Cause(ctx), &refused) {
		return refused
	}
	return err
}
