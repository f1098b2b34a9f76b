package role

import (
	"context"
	"fmt"
)

// Shared is what the daemons of one store use to be of one role: any of them may turn it.
//
// Each keeps the state as it last read it, and reads it again when Refresh is called. Until then it may
// take changes that the role refuses already, so that each write of a change looks at the state in its
// own transaction, see Guard: writes of all daemons have one order, and those after the turn are refused.
type Shared struct {
	// Swap writes a note if it is what it was, and reports whether it did.
	Swap func(ctx context.Context, name, was, text string) (bool, error)
	// Guard returns a context whose writes to the store end with the error of check, which gets the
	// text of a note in the transaction of the write.
	Guard func(ctx context.Context, name string, check func(text string) error) context.Context
}

// Refresh reads the state that another daemon may have written. When it returns, this one is of its role.
func (f *Family) Refresh(ctx context.Context) error {
	if f.Shared == nil {
		return nil
	}
	f.turning.Lock()
	defer f.turning.Unlock()
	return f.reload(ctx)
}

// reload is Refresh. The caller holds turning.
func (f *Family) reload(ctx context.Context) error {
	if f.Shared == nil {
		return nil
	}
	text, err := f.Notes.Note(ctx, noteName)
	if err != nil {
		return fmt.Errorf("read the role of this appliance: %w", err)
	}
	if text == f.kept().text {
		return nil
	}
	next, err := f.parse(text)
	if err != nil {
		return err
	}
	if next.Role == Primary {
		next.Known.Address = f.Address
	}
	if refuses := RefusalOf(next); refuses != nil {
		f.gate.shut(refuses)
	}
	f.become(ctx, kept{next, text})
	return nil
}

// guard returns the context of a change of content, whose writes are refused once another daemon has
// turned the role.
func (f *Family) guard(ctx context.Context) context.Context {
	return f.within(ctx, RefusalOf)
}

// Within returns a context whose writes are refused once the state is not any more as a function wants
// it, whichever daemon turns it.
func (f *Family) Within(ctx context.Context, is func(State) bool) context.Context {
	return f.within(ctx, func(s State) error {
		if is(s) {
			return nil
		}
		return fmt.Errorf("the role of this appliance is another since: %s", s.Role)
	})
}

func (f *Family) within(ctx context.Context, refusal func(State) error) context.Context {
	if f.Shared == nil {
		return ctx
	}
	return f.Shared.Guard(ctx, noteName, func(text string) error {
		if now := f.kept(); now.text == text {
			return refusal(now.State)
		}
		s, err := f.parse(text)
		if err != nil {
			return err
		}
		return refusal(s)
	})
}
