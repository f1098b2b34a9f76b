package systemd

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// quote returns text as one word of a list in a unit file, as systemd.syntax(7) splits words.
//
// It puts a double quote in single quotes instead of escaping it: lists of paths know fewer escapes
// than command lines, while quotes mean the same in all lists. It doubles %, which begins a
// specifier.
func quote(text string) string {
	text = strings.ReplaceAll(text, `%`, `%%`)
	text = strings.ReplaceAll(text, `\`, `\\`)
	text = strings.ReplaceAll(text, `"`, `"'"'"`)
	return `"` + text + `"`
}

// quoteArgument is quote for an argument in ExecStart=, where $ begins a variable. In the path of
// the executable it does not, and would stay doubled.
func quoteArgument(text string) string {
	return strings.ReplaceAll(quote(text), `$`, `$$`)
}

// CheckPath rejects a path that a unit file cannot contain.
func CheckPath(path string) error {
	reason := ""
	switch {
	case !strings.HasPrefix(path, "/"):
		reason = "is not absolute"
	case !utf8.ValidString(path):
		reason = "is not UTF-8"
	case strings.ContainsFunc(path, unicode.IsControl):
		reason = "holds a control character"
	default:
		return nil
	}
	return hint.New(fmt.Errorf("path %q %s", path, reason), "choose another directory")
}
