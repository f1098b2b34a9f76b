package imageset

import (
	"fmt"
	"strings"

	"github.com/mirror-appliance/appliance/internal/yamlkeys"
)

// invalidError lists all problems of one file.
type invalidError struct {
	file       string
	problems   []yamlkeys.Problem
	additional bool // all are about names of additional images
}

func (e *invalidError) Error() string {
	lines := make([]string, len(e.problems))
	for i, p := range e.problems {
		lines[i] = e.file + ": " + p.Text()
		if p.Line > 0 {
			lines[i] = fmt.Sprintf("%s:%d: %s", e.file, p.Line, p.Text())
		}
	}
	return "invalid configuration: " + strings.Join(lines, "\n  ")
}

// Hint returns what to do about each problem, where that is known.
func (e *invalidError) Hint() string {
	var hints []string
	seen := map[string]bool{"": true}
	for _, p := range e.problems {
		if seen[p.Hint] {
			continue
		}
		seen[p.Hint] = true
		hint := p.Hint
		if len(e.problems) > 1 && p.Line > 0 {
			hint = fmt.Sprintf("line %d: %s", p.Line, p.Hint)
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
	if e.additional {
		return 8
	}
	return 1
}
