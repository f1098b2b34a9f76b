package installer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/internal/hint"
)

// Plan is an ordered list of idempotent steps, which can be shown or applied.
type Plan struct {
	Warnings  []Problem // what the user should know, though it forbids nothing
	Splits    bool      // it replaces the program and moves content, which are to be two plans
	Loses     string    // what cannot be had again afterwards, for the user to consent to; empty: nothing
	Elsewhere []string  // database and bucket that an uninstall leaves: they are not this host's
	Stays     []string  // what a cleanup leaves in directories of a mirror-registry: what is not its own, or is used

	// Again says that this plan takes back a rollback that was killed: it is to be planned anew.
	Again bool

	steps     []host.Step
	remaining func(context.Context) ([]string, error) // nil: not of a cleanup
	site      *site
	journal   *host.Journal
	result    Result
	// seeded is the step that fills Result.Seeded; nil in an uninstall.
	seeded *seed
	// install says that a failure is undone and that the end is recorded. An uninstall is not
	// undone: another one completes it.
	install bool
}

// fatal returns the problems that forbid a plan.
func (s *site) fatal() []Problem {
	return slices.DeleteFunc(slices.Clone(s.problems), func(p Problem) bool { return p.Warning })
}

// newPlan rejects what the site has problems with.
func (s *site) newPlan() (*Plan, error) {
	if fatal := s.fatal(); len(fatal) > 0 {
		return nil, &PreflightError{Problems: fatal}
	}
	result := Result{QuayRoot: s.QuayRoot}
	return &Plan{site: s, journal: s.journal, Warnings: s.problems, result: result}, nil
}

func (p *Plan) add(steps ...host.Step) { p.steps = append(p.steps, steps...) }

// Remaining returns what a cleanup that was applied has left of the directories: see Stays.
func (p *Plan) Remaining(ctx context.Context) ([]string, error) {
	if p.remaining == nil {
		return nil, nil
	}
	return p.remaining(ctx)
}

// Describe returns one line for each step, in order. A step whose result is there already does
// nothing.
func (p *Plan) Describe() []string {
	lines := make([]string, 0, len(p.steps))
	for _, s := range p.steps {
		if text := s.String(); text != "" {
			lines = append(lines, text)
		}
	}
	return lines
}

// Pending returns the lines of the steps that have something to do. What follows from others is told as
// far as it can be without them.
func (p *Plan) Pending(ctx context.Context) (lines []string, err error) {
	if !p.install {
		return p.Describe(), nil // an uninstall has a step for what there is
	}
	if err := p.site.bus.open(ctx); err != nil {
		return nil, err
	}
	defer p.site.bus.close()
	changes := false
	for _, s := range p.steps {
		if users, ok := s.(*seed); ok {
			if line, known := users.pending(ctx); known {
				if line != "" {
					lines = append(lines, line)
				}
				continue
			}
		}
		before, err := s.Check(ctx)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		_, always := s.(interface{ always() })
		_, starts := s.(*start)
		done := err == nil && (before == nil || before.Is == "enabled") && !(starts && changes)
		switch {
		case s.String() == "", done, always && !changes:
			continue
		}
		changes = true
		lines = append(lines, s.String())
	}
	return lines, nil
}

// waits is a step that waits for something else, so that its line is shown beforehand.
type waits interface{ waits() bool }

// undoTimeout bounds an undo: above all, it stops a daemon that drains.
const undoTimeout = 2 * time.Minute

// Apply does the steps in order. progress (may be nil) gets a line for each step that changed
// something. When a step of an install fails, or ctx ends, everything is undone.
func (p *Plan) Apply(ctx context.Context, progress func(line string)) (Result, error) {
	if progress == nil {
		progress = func(string) {}
	}
	result := p.result
	if err := p.site.bus.open(ctx); err != nil {
		return result, err
	}
	defer p.site.bus.close()
	if p.install && p.site.replaced { // before the journal goes that has it
		if err := p.site.writeRecord(ctx, nil); err != nil {
			return result, err
		}
	}
	resumed := len(p.journal.Entries) > 0
	for _, step := range p.steps {
		changed, err := p.apply(ctx, step, progress)
		if err != nil {
			return result, p.failed(ctx, step, err, changed || result.Changed || resumed, progress)
		}
		result.Changed = changed || result.Changed
	}
	if p.seeded != nil {
		result.InitUser, result.Seeded = p.seeded.in.InitUser, p.seeded.done.password
		p.site.InitUser, result.PullerRole = result.InitUser, p.seeded.done.role
		if p.seeded.done.kept {
			p.site.puller = adoptedPuller
		}
		if !result.Seeded && p.seeded.in.Generated {
			result.InitPassword = ""
		}
	}
	if !p.install {
		return result, nil
	}
	return result, p.end(context.WithoutCancel(ctx), result)
}

func (p *Plan) apply(ctx context.Context, step host.Step, progress func(string)) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if s, ok := step.(interface{ tell(func(string)) }); ok {
		s.tell(progress)
	}
	w, beforehand := step.(waits)
	if beforehand = beforehand && w.waits(); beforehand {
		progress(step.String())
	}
	changed, err := p.journal.Do(ctx, step)
	if changed && err == nil && step.String() != "" && !beforehand {
		progress(step.String())
	}
	return changed, err
}

// end records the install and shows its result, after which the journal is of no use.
func (p *Plan) end(ctx context.Context, result Result) error {
	err := p.journal.Finish()
	if m := p.site.migrates; m != nil && err == nil {
		p.site.record.Replaced.Copy, err = m.made(m.old)
	}
	if moves, _ := p.site.moving(); err == nil {
		p.site.left(moves)
	}
	if p.site.rewound != nil && p.site.rewound.Aside != p.site.rewound.Name {
		p.site.record.Replaced.Copy = p.site.rewound.Aside
	}
	err = errors.Join(err, p.site.writeRecord(ctx, p.steps))
	if err != nil {
		return err
	}
	if err := p.site.clearOld(ctx); err != nil {
		return err
	}
	if p.site.Show != nil {
		err = p.site.Show(result)
	}
	if p.seeded != nil && err == nil {
		_, err = p.site.Host.Remove(p.seeded.in.notShown())
	}
	return errors.Join(err, p.journal.Discard(ctx))
}

// failed undoes the steps up to the one that failed, last first.
func (p *Plan) failed(ctx context.Context, step host.Step, err error, changed bool,
	progress func(string)) error {
	failure := &applyError{Step: step.String(), Err: err}
	if ctx.Err() != nil {
		failure.Interrupted, failure.Err = true, context.Cause(ctx) // the rest of err follows from that
	}
	if !p.install {
		return failure
	}
	if p.site.decided() { // pushes may have come
		failure.Err = hint.New(failure.Err, "the registry serves from the new place; run the command again, which completes the rest")
		return failure
	}
	// An interrupted install is not wanted: this goes on after ctx has ended.
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if why := p.site.migratedServer(undo); why != nil {
		failure.Err = errors.Join(failure.Err, p.stay(undo, why))
		return failure
	}
	if changed {
		progress("taking back what was done")
	}
	failure.Undone, failure.UndoErr = changed, p.journal.Undo(undo)
	if failure.UndoErr == nil {
		failure.UndoErr = p.journal.Discard(undo)
	}
	p.journal.Close() // what is left is another command's to take back
	return failure
}

// applyError is a plan that could not be completed.
type applyError struct {
	Step        string
	Err         error
	Interrupted bool
	Undone      bool  // what had changed was undone, except for what UndoErr says
	UndoErr     error // nil: the host is as it was
}

func (e *applyError) Error() string {
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
	case e.UndoErr != nil:
		text += fmt.Sprintf("\nwhat had been done was taken back, except for:\n%v", e.UndoErr)
	}
	return text
}

// Unwrap returns the cause, whose hint (if any) is the one to show.
func (e *applyError) Unwrap() error { return e.Err }
