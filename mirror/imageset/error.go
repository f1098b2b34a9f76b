package imageset

import (
	"fmt"
	"strings"
)

// FileError says that the configuration could not be read at all.
type FileError struct {
	Path string
	Err  error
}

func (e *FileError) Error() string { return "read image set configuration: " + e.Err.Error() }

func (e *FileError) Unwrap() error { return e.Err }

// Hint says what to do next.
func (e *FileError) Hint() string {
	return "give the path of an ImageSetConfiguration with --config, one that you may read"
}

// Problem is one thing that is wrong in a file.
type Problem struct {
	Line int    // 0: the file as a whole
	What string // what is wrong
	Do   string // what to do about it; may be empty

	// additional is true if oc-mirror would have found this only when it collected the additional
	// images, and would have ended with their exit code.
	additional bool
}

// Error is everything that is wrong in one file.
type Error struct {
	File     string
	Problems []Problem
}

func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = e.place(p) + ": " + p.What
	}
	return "invalid configuration: " + strings.Join(lines, "\n  ")
}

func (e *Error) place(p Problem) string {
	if p.Line == 0 {
		return e.File
	}
	return fmt.Sprintf("%s:%d", e.File, p.Line)
}

// Hint says what to do about each problem of which that is known.
func (e *Error) Hint() string {
	var hints []string
	seen := map[string]bool{}
	for _, p := range e.Problems {
		if p.Do == "" || seen[p.Do] {
			continue
		}
		seen[p.Do] = true
		hint := p.Do
		if len(e.Problems) > 1 && p.Line > 0 {
			hint = fmt.Sprintf("line %d: %s", p.Line, p.Do)
		}
		hints = append(hints, hint)
	}
	if len(hints) == 0 {
		return "correct " + e.File + "; nothing was written"
	}
	return strings.Join(hints, "\n")
}

// ExitCode is oc-mirror's: 8 if only names of additional images are wrong, else 1.
func (e *Error) ExitCode() int {
	for _, p := range e.Problems {
		if !p.additional {
			return 1
		}
	}
	return 8
}
