package image

import (
	_ "crypto/sha256" // go-digest knows only the algorithms that are linked in
	_ "crypto/sha512"
	"fmt"

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
		return &InvalidError{What: "repository name", Reason: fmt.Sprintf("it is longer than %d characters", maxRepository)}
	}
	if !ValidRepository(s) {
		return &InvalidError{What: "repository name", Reason: Quote(s) + " is not lower-case words separated by / . _ or -"}
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
