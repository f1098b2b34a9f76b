// Package hint attaches to an error what to type next.
//
// Use New where no caller matches the error's type. A type that callers match with errors.As has a
// method Hint of its own, and Of reads both. A hint is not part of the error's text: a command
// prints it on a line of its own, the control API sends it in a field of its own.
package hint

import "strings"

type hinted struct {
	error
	hint string
}

// New returns err with a hint: what to do about it, in the imperative, and the command to type.
func New(err error, hint string) error { return &hinted{err, hint} }

func (e *hinted) Unwrap() error { return e.error }
func (e *hinted) Hint() string  { return e.hint }

// Of returns the outermost hint of err and of what it wraps, or "".
func Of(err error) string {
	if e, ok := err.(interface{ Hint() string }); ok {
		if hint := e.Hint(); hint != "" {
			return hint
		}
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return Of(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if hint := Of(err); hint != "" {
				return hint
			}
		}
	}
	return ""
}

// quoted returns a word as a shell has to be given it, such as a path with a blank.
func quoted(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("@%+=:,./_-", r)
	}
	if word != "" && strings.TrimLeftFunc(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// Words returns a command line of words, which a shell takes as they are.
func Words(words ...string) string {
	all := make([]string, len(words))
	for i, w := range words {
		all[i] = quoted(w)
	}
	return strings.Join(all, " ")
}
