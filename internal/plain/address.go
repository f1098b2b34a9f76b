package plain

import (
	"net/url"
	"strings"
)

// Address returns a URL without what may be a secret in it: the password, and what is behind its "?".
// Of one that cannot be parsed it returns what is behind the last "@", up to there.
func Address(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		text, _, _ = strings.Cut(text[strings.LastIndexByte(text, '@')+1:], "?")
		return text
	}
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	u.Fragment = ""
	return u.Redacted()
}
