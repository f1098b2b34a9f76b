package auth

import (
	"fmt"
	"strings"
)

// PatternError reports a pattern over repository names that means nothing.
type PatternError struct{ Pattern, Why string }

func (e *PatternError) Error() string {
	return fmt.Sprintf("repository pattern %q %s", e.Pattern, e.Why)
}

// Hint says what a pattern must be.
func (e *PatternError) Hint() string {
	return "name one repository (openshift/release), all below one (openshift/*), or all (*)"
}

const maxPatternBytes = 255

// CheckPattern returns a *PatternError unless p is a pattern over repository names. There are three
// forms, and no others, so that nobody has to guess what a grant reaches:
//
//	openshift/release   that repository
//	openshift/*         every repository below openshift, at any depth, and not openshift itself
//	*                   every repository
func CheckPattern(p string) error {
	name := strings.TrimSuffix(p, "/*")
	switch {
	case p == "*":
		return nil
	case p == "":
		return &PatternError{Pattern: p, Why: "is empty"}
	case len(p) > maxPatternBytes:
		return &PatternError{Pattern: p[:32] + "…", Why: fmt.Sprintf("is longer than %d bytes", maxPatternBytes)}
	case strings.Contains(name, "*"):
		return &PatternError{Pattern: p, Why: "has a * that is not its last component"}
	}
	for component := range strings.SplitSeq(name, "/") {
		if why := checkComponent(component); why != "" {
			return &PatternError{Pattern: p, Why: why}
		}
	}
	return nil
}

// checkComponent is a little wider than the grammar of repository names: what is not one matches none.
func checkComponent(s string) string {
	if s == "" {
		return "has an empty component"
	}
	for _, c := range s {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.ContainsRune("._-", c)) {
			return fmt.Sprintf("contains %q, which no repository name can", c)
		}
	}
	return ""
}

// MayRepository reports whether the grants reach the repository. What may be done there is the role's
// to say. An administrator's grants are not looked at: who can change them has no use for them.
func (i Identity) MayRepository(repo string) bool {
	return !i.Restricted() || matchesAny(i.Repositories, repo)
}

// MayPull reports whether the repository may be pulled: also what everybody may pull, granted or not.
func (i Identity) MayPull(repo string) bool {
	return i.MayRepository(repo) || matchesAny(i.open, repo)
}

// Restricted reports whether there are repositories that the grants do not reach.
func (i Identity) Restricted() bool { return i.Role != Admin && len(i.Repositories) > 0 }

func matchesAny(patterns []string, repo string) bool {
	for _, p := range patterns {
		if matches(p, repo) {
			return true
		}
	}
	return false
}

// matches takes a malformed pattern, which should not have got into the store, for one that reaches nothing.
func matches(pattern, repo string) bool {
	if pattern == "*" {
		return true
	}
	if parent, ok := strings.CutSuffix(pattern, "/*"); ok {
		below, ok := strings.CutPrefix(repo, parent+"/")
		return ok && parent != "" && below != ""
	}
	return pattern == repo && repo != ""
}
