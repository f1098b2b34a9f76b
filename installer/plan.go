package installer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Plan is what an install or an uninstall is going to do.
type Plan struct {
	Steps    []Step
	Warnings []Problem // what the user should know, though it forbids nothing

	bus    *bus
	result Result
	// seeded is the step that fills Result.Seeded; nil in an uninstall.
	seeded *seed
	// undo says whether a failure takes back what was done. An uninstall is not taken back: doing it again
	// completes it.
	undo bool
}

// Describe gives one line for each step, in order. A step whose result is there already does nothing.
func (p *Plan) Describe() []string {
	lines := make([]string, 0, len(p.Steps))
	for _, s := range p.Steps {
		if text := s.String(); text != "" {
			lines = append(lines, text)
		}
	}
	return lines
}

// waits is a step that waits for something else, so that its line is shown beforehand.
type waits interface{ waits() }

// undoTimeout is how long taking back may last, above all stopping a daemon that drains.
const undoTimeout = 2 * time.Minute

// Apply does the steps in order. progress (may be nil) gets a line for each step that changed something.
// When a step of an install fails, or ctx ends, everything done is undone and the error is an *ApplyError.
func (p *Plan) Apply(ctx context.Context, progress func(line string)) (Result, error) {
	if progress == nil {
		progress = func(string) {}
	}
	defer p.forget()
	result := p.result
	for i, step := range p.Steps {
		changed, err := apply(ctx, step, progress)
		if err != nil {
			return result, p.failed(ctx, i, err, progress)
		}
		result.Changed = result.Changed || changed
	}
	if p.seeded != nil {
		result.Seeded = p.seeded.changed
		if !result.Seeded && p.seeded.in.Generated {
			result.InitPassword = ""
		}
	}
	return result, nil
}

func apply(ctx context.Context, step Step, progress func(string)) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if _, ok := step.(waits); ok {
		progress(step.String())
		return step.Apply(ctx)
	}
	changed, err := step.Apply(ctx)
	if changed && err == nil && step.String() != "" {
		progress(step.String())
	}
	return changed, err
}

// failed takes back the steps up to the one that failed, last first.
func (p *Plan) failed(ctx context.Context, last int, err error, progress func(string)) error {
	failure := &ApplyError{Step: p.Steps[last].String(), Err: err}
	if ctx.Err() != nil {
		failure.Interrupted, failure.Err = true, context.Cause(ctx) // whatever else err says follows from that
	}
	if !p.undo {
		return failure
	}
	progress("taking back what was done")
	// Whoever interrupts an install wants it gone: this goes on after ctx has ended.
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	var errs []error
	for i := last; i >= 0; i-- {
		if err := p.Steps[i].Undo(undo); err != nil {
			errs = append(errs, fmt.Errorf("take back %q: %w", p.Steps[i], err))
		}
	}
	failure.Undone, failure.UndoErr = true, errors.Join(errs...)
	return failure
}

// forget lets go of what steps kept for Undo.
func (p *Plan) forget() {
	for _, s := range p.Steps {
		if c, ok := s.(io.Closer); ok {
			c.Close() // files open for reading: nothing can be lost
		}
	}
	p.bus.close()
}

// ApplyError is a plan that could not be completed.
type ApplyError struct {
	Step        string
	Err         error
	Interrupted bool
	Undone      bool  // everything was taken back, except for what UndoErr says
	UndoErr     error // nil: the host is as it was
}

func (e *ApplyError) Error() string {
	text := fmt.Sprintf("%s: %v", e.Step, e.Err)
	switch {
	case e.Step == "":
		text = e.Err.Error()
	case e.Interrupted:
		text = "interrupted at: " + e.Step
	}
	switch {
	case e.Undone && e.UndoErr == nil:
		text += "\nwhat had been done was taken back"
	case e.Undone:
		text += fmt.Sprintf("\nwhat had been done was taken back, except for:\n%v", e.UndoErr)
	}
	return text
}

// Unwrap gives what went wrong, whose Hint (if any) is the one to show.
func (e *ApplyError) Unwrap() error { return e.Err }
