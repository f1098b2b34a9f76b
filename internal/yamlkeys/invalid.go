package yamlkeys

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// invalid is the error of a document with problems.
type invalid struct {
	File     string
	Problems []Problem
}

// Err returns all problems in the order of their lines, nil if there are none.
func (d *Decoder) Err(file string) error {
	if len(d.Problems) == 0 {
		return nil
	}
	slices.SortStableFunc(d.Problems, func(a, b Problem) int { return a.Line - b.Line })
	return &invalid{file, d.Problems}
}

func (e *invalid) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = e.File + ": " + p.Text()
		if p.Line > 0 {
			lines[i] = fmt.Sprintf("%s:%d: %s", e.File, p.Line, p.Text())
		}
	}
	return "invalid configuration: " + strings.Join(lines, "\n  ")
}

// Hint returns what to do about each problem, where that is known.
func (e *invalid) Hint() string {
	var hints []string
	seen := map[string]bool{"": true}
	for _, p := range e.Problems {
		if seen[p.Hint] {
			continue
		}
		seen[p.Hint] = true
		hint := p.Hint
		if len(e.Problems) > 1 && p.Line > 0 {
			hint = fmt.Sprintf("line %d: %s", p.Line, p.Hint)
		}
		hints = append(hints, hint)
	}
	if len(hints) == 0 {
		return "correct " + e.File + "; nothing was written"
	}
	return strings.Join(hints, "\n")
}

// ProblemsOf lists the problems of an error that Err returned, nil for another one.
func ProblemsOf(err error) []Problem {
	var e *invalid
	if !errors.As(err, &e) {
		return nil
	}
	return e.Problems
}
