package systemd

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// quote makes one word of a list in a unit file out of text, as systemd.syntax(7) splits words.
//
// A double quote is put in single quotes of its own instead of being escaped: lists of paths know fewer escapes than
// command lines, while quoting is the same in all of them. %, which begins a specifier everywhere, is doubled.
func quote(text string) string {
	text = strings.ReplaceAll(text, `%`, `%%`)
	text = strings.ReplaceAll(text, `\`, `\\`)
	text = strings.ReplaceAll(text, `"`, `"'"'"`)
	return `"` + text + `"`
}

// quoteArgument is quote for arguments in ExecStart=, where $ begins a variable. (In the path of the executable it
// does not, and would stay doubled.)
func quoteArgument(text string) string {
	return strings.ReplaceAll(quote(text), `$`, `$$`)
}

// PathError is a path that no unit file can hold.
type PathError struct {
	Path string
	Why  string
}

func (e *PathError) Error() string { return fmt.Sprintf("path %q %s", e.Path, e.Why) }

// Hint says what to do next.
func (e *PathError) Hint() string { return "choose another directory" }

// CheckPath refuses a path that no unit file can hold.
func CheckPath(path string) error {
	switch {
	case !strings.HasPrefix(path, "/"):
		return &PathError{Path: path, Why: "is not absolute"}
	case !utf8.ValidString(path):
		return &PathError{Path: path, Why: "is not UTF-8"}
	case strings.ContainsFunc(path, unicode.IsControl):
		return &PathError{Path: path, Why: "holds a control character"}
	}
	return nil
}
