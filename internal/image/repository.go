// Package image holds the grammar of the names that every room uses: of repositories, of patterns over them, and of the
// host that serves them.
//
// Regular expressions were refused: a repository name is looked at before every request, where an expression costs
// more than the answer.
package image

import "strings"

// maxRepository is how many bytes the name of a repository may have: what distribution and clients allow.
const maxRepository = 255

// ValidRepository reports whether s is the name of a repository, in the grammar of the distribution specification:
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
