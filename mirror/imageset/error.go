package imageset

import (
	"fmt"
	"strings"
)

// problem is one fault of a file.
type problem struct {
	Line int // 0: the file as a whole
	What string
	Do   string // what to do about it; may be empty

	// additional reports that oc-mirror finds this when it collects the additional images, and ends with their exit code.
	additional bool
}

// invalidError lists all problems of one file.
type invalidError struct {
	file     string
	problems []problem
}

func (e *invalidError) Error() string {
	lines := make([]string, len(e.problems))
	for i, p := range e.problems {
		lines[i] = e.place(p) + ": " + p.What
	}
	return "invalid configuration: " + strings.Join(lines, "\n  ")
}

func (e *invalidError) place(p problem) string {
	if p.Line == 0 {
		return e.file
	}
	return fmt.Sprintf("%s:%d", e.file, p.Line)
}

// Hint returns what to do about each problem, where that is known.
func (e *invalidError) Hint() string {
	var hints []string
	seen := map[string]bool{}
	for _, p := range e.problems {
		if p.Do == "" || seen[p.Do] {
			continue
		}
		seen[p.Do] = true
		hint := p.Do
		if len(e.problems) > 1 && p.Line > 0 {
			hint = fmt.Sprintf("line %d: %s", p.Line, p.Do)
		}
		hints = append(hints, hint)
	}
	if len(hints) == 0 {
		return "correct " + e.file + "; nothing was written"
	}
	return strings.Join(hints, "\n")
}

// ExitCode returns oc-mirror's exit code: 8 if only names of additional images are wrong, else 1.
func (e *invalidError) ExitCode() int {
	for _, p := range e.problems {
		if !p.additional {
			return 1
		}
	}
	return 8
}
