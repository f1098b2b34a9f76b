package image

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// All is the pattern that every repository matches.
const All = "*"

// PatternError reports a pattern over repository names that matches nothing, or is ambiguous.
type PatternError struct{ Pattern, Reason string }

func (e *PatternError) Error() string {
	return fmt.Sprintf("repository pattern %q %s", e.Pattern, e.Reason)
}

// Hint returns what a pattern must be.
func (e *PatternError) Hint() string {
	return "name one repository (openshift/release), all below one (openshift/*), or all (*)"
}

// CheckPattern returns a *PatternError unless p is a pattern over repository names, in one of three
// forms:
//
//	openshift/release   that repository
//	openshift/*         every repository below openshift, at any depth, and not openshift itself
//	*                   every repository
//
// A pattern that no repository can match is refused: it would be believed to do something.
func CheckPattern(p string) error {
	name, below := strings.CutSuffix(p, "/*")
	most := maxRepository
	if below {
		most -= len("/x")
	}
	switch {
	case p == All:
		return nil
	case strings.TrimSpace(p) == "":
		return &PatternError{Pattern: p, Reason: "is empty"}
	case len(name) > most:
		return &PatternError{Pattern: p[:32] + "…",
			Reason: fmt.Sprintf("is longer than the %d bytes that a repository name has", maxRepository)}
	case strings.Contains(name, "*"):
		return &PatternError{Pattern: p, Reason: "has a * that is not its last component"}
	case !ValidRepository(name):
		return &PatternError{Pattern: p, Reason: "matches no repository: their names are lower-case words, separated by / . _ or -"}
	}
	return nil
}

// CheckPatterns returns the error of the first pattern that CheckPattern refuses.
func CheckPatterns(patterns []string) error {
	for _, p := range patterns {
		if err := CheckPattern(p); err != nil {
			return err
		}
	}
	return nil
}

// match reports whether a repository matches a pattern. An invalid pattern matches nothing.
func match(pattern, repo string) bool {
	if pattern == All {
		return true
	}
	if parent, ok := strings.CutSuffix(pattern, "/*"); ok {
		below, ok := strings.CutPrefix(repo, parent+"/")
		return ok && parent != "" && below != ""
	}
	return pattern == repo && repo != ""
}

// Range is a part of the repository names in their order: from From on, before Before.
type Range struct{ From, Before string }

// Ranges returns where the names are that match one of the patterns, in order, and none of them twice.
func Ranges(patterns []string) []Range {
	var all []Range
	for _, p := range patterns {
		parent, below := strings.CutSuffix(p, "/*")
		switch {
		case p == All:
			return []Range{{"", "\xff"}}
		case below:
			all = append(all, Range{parent + "/", parent + "0"}) // which follows the slash
		default:
			all = append(all, Range{p, p + "\x00"})
		}
	}
	slices.SortFunc(all, func(a, b Range) int {
		return cmp.Or(strings.Compare(a.From, b.From), strings.Compare(b.Before, a.Before))
	})
	end := ""
	return slices.DeleteFunc(all, func(r Range) bool {
		inside := r.Before <= end // two are never across each other
		end = max(end, r.Before)
		return inside
	})
}

// MatchAny reports whether a repository matches one of the patterns.
func MatchAny(patterns []string, repo string) bool {
	for _, p := range patterns {
		if match(p, repo) {
			return true
		}
	}
	return false
}
