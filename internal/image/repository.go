// Package image holds the grammar of the names that every room uses: of repositories, of patterns over them, and of the
// host that serves them.
//
// Regular expressions were refused: a name is checked at every request, and would cost more than that.
package image

import "strings"

// maxRepository is the longest name of a repository in bytes, as distribution and clients have it.
const maxRepository = 255

// ValidRepository reports whether s is the name of a repository by the distribution specification:
//
//	[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*
func ValidRepository(s string) bool {
	if len(s) > maxRepository {
		return false
	}
	for component := range strings.SplitSeq(s, "/") {
		if !validComponent(component) {
			return false
		}
	}
	return true
}

func validComponent(s string) bool {
	separator := "" // since the last letter or digit; the first character follows none
	start := true
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
			if !start && !validSeparator(separator) {
				return false
			}
			separator, start = "", false
		case c == '.' || c == '_' || c == '-':
			if start {
				return false
			}
			separator = s[i-len(separator) : i+1]
		default:
			return false
		}
	}
	return !start && separator == ""
}

func validSeparator(s string) bool {
	return s == "" || s == "." || s == "_" || s == "__" || strings.Trim(s, "-") == ""
}
