// Package image holds the grammar of the names that every room uses: of repositories, of patterns
// over them, and of the host that serves them.
//
// Regular expressions were refused: a name is checked at every request, and would
// cost more than that.
package image

import (
	_ "crypto/sha256" // go-digest knows only the algorithms that are linked in
	_ "crypto/sha512"
	"fmt"
	"net/netip"
	"strings"

	"github.com/opencontainers/go-digest"
)

// InvalidError reports a malformed name or manifest.
type InvalidError struct{ What, Reason string }

func (e *InvalidError) Error() string { return fmt.Sprintf("invalid %s: %s", e.What, e.Reason) }

// maxTag is how many bytes a tag may have.
const maxTag = 128

// CheckRepository returns an *InvalidError unless s is the name of a repository. The grammar of
// distribution/reference is another: its first component may be a host with a port and capitals.
func CheckRepository(s string) error {
	if len(s) > maxRepository {
		return &InvalidError{What: "repository name",
			Reason: fmt.Sprintf("it is longer than %d characters", maxRepository)}
	}
	if !ValidRepository(s) {
		return &InvalidError{What: "repository name",
			Reason: Quote(s) + " is not lower-case words separated by / . _ or -"}
	}
	return nil
}

// CheckTag returns an *InvalidError unless s is a tag by the distribution specification:
//
//	[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}
func CheckTag(s string) error {
	if !validTag(s) {
		return &InvalidError{What: "tag", Reason: Quote(s) + " is not 1 to 128 letters, digits, _ . or -, the first not . or -"}
	}
	return nil
}

func validTag(s string) bool {
	if s == "" || len(s) > maxTag {
		return false
	}
	for i, c := range []byte(s) {
		word := c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !word && (i == 0 || c != '.' && c != '-') {
			return false
		}
	}
	return true
}

// ValidAlgorithm reports whether registries keep content under digests of a.
func ValidAlgorithm(a digest.Algorithm) bool { return a == digest.SHA256 || a == digest.SHA512 }

// CheckDigest returns an *InvalidError unless d is a digest that registries keep: sha256 or sha512.
func CheckDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return &InvalidError{What: "digest", Reason: Quote(d.String()) + ": " + err.Error()}
	}
	if !ValidAlgorithm(d.Algorithm()) {
		return &InvalidError{What: "digest", Reason: Quote(d.String()) + ": only sha256 and sha512 are kept"}
	}
	return nil
}

// Quote returns s quoted for an error message, and cut, so that no input floods a log.
func Quote(s string) string {
	if len(s) > 100 {
		return fmt.Sprintf("%.100q…", s)
	}
	return fmt.Sprintf("%q", s)
}

// maxRepository is the longest name of a repository in bytes, as distribution and clients have it.
const maxRepository = 255

// FilesRepository has the files of media, which an appliance serves at /files/, as artifacts.
const FilesRepository = "appliance/files"

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

const (
	maxHostname = 253 // bytes, of RFC 1035
	maxLabel    = 63
)

// CheckHostname returns an error unless s can be the name of the host that a registry runs on: a
// DNS name as RFC 1123 has it, in either case. An address is refused, since certificates and image
// references ask for a name, and so is a name whose last part is a number, which resolvers and
// certificate checks take for an address.
func CheckHostname(s string) error {
	if _, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return fmt.Errorf("%q is an IP address, not a DNS name", s)
	}
	if len(s) > maxHostname {
		return fmt.Errorf("a DNS name has at most %d characters, this has %d", maxHostname, len(s))
	}
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if !validLabel(label) {
			return fmt.Errorf("%q is not a DNS name: between its dots are letters, digits and inner hyphens only, at most %d", s, maxLabel)
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return fmt.Errorf("%q is not a DNS name: its last part is a number", s)
	}
	return nil
}

func validLabel(s string) bool {
	if s == "" || len(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if !(c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z') {
			return false
		}
	}
	return true
}
