package mirror

import (
	"errors"
	"fmt"
)

// Exit codes of a run, a bit mask as oc-mirror has it.
const (
	exitGeneric    = 1
	exitRelease    = 2
	exitAdditional = 8
)

// Error is a run that could not be done, with what to do about it.
type Error struct {
	err  error
	code int
	hint string
}

func (e *Error) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.err }

// ExitCode is a bit mask: 1 generic, 2 release, 8 additional images.
func (e *Error) ExitCode() int { return max(e.code, exitGeneric) }

// Hint says what to do about it; the cause may know better.
func (e *Error) Hint() string {
	var h interface{ Hint() string }
	if errors.As(e.err, &h) {
		return h.Hint()
	}
	return e.hint
}

// classed gives an error the exit code of the class that it befell.
func classed(code int, err error) error {
	var e *Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return &Error{err: err, code: code}
}

// IncompleteError is a run of which some images failed, or a plan that lacks some. The Report, or the Plan, names them.
type IncompleteError struct {
	Failed, Planned int
	Code            int
	Log             string // where the failures of a run are listed, if they are

	unplanned bool
}

// incomplete is the error of some failures among all that was asked for, nil if there are none.
func incomplete(failures []Failure, asked int) *IncompleteError {
	if len(failures) == 0 {
		return nil
	}
	e := &IncompleteError{Failed: len(failures), Planned: asked}
	for _, f := range failures {
		e.Code |= classOf(f.Image.Type)
	}
	return e
}

func (e *IncompleteError) Error() string {
	what := "are not at their destination"
	if e.unplanned {
		what = "cannot be mirrored"
	}
	text := fmt.Sprintf("%d of %d images %s", e.Failed, e.Planned, what)
	if e.Log != "" {
		text += ", see " + e.Log
	}
	return text
}

// ExitCode is a bit mask: 2 release, 8 additional images.
func (e *IncompleteError) ExitCode() int { return e.Code }

// Hint says what to do about it.
func (e *IncompleteError) Hint() string {
	if e.unplanned {
		return "mend what failed, or mirror without it: the others would be copied"
	}
	return "run the same command again: what has arrived is not fetched again"
}
