package store

import (
	_ "crypto/sha256" // go-digest knows only the algorithms that are linked in
	_ "crypto/sha512"
	"fmt"
	"regexp"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"

	names "github.com/mirror-appliance/appliance/internal/image"
)

// The grammars are those of the distribution specification. That of distribution/reference would let a host name
// with a port and capitals through as the first part of a repository name.
var tagGrammar = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

func checkRepository(name string) error {
	if len(name) > names.MaxRepository {
		return &InvalidError{What: "repository name", Why: "it is longer than 255 characters"}
	}
	if !names.ValidRepository(name) {
		return &InvalidError{What: "repository name", Why: quoted(name) + " is not lower-case words separated by / . _ or -"}
	}
	return nil
}

// checkPattern refuses a pattern that no repository name can match: it would grant nothing, and the person who
// gave it would believe that it does.
func checkPattern(pattern string) error {
	if names.CheckPattern(pattern) == nil {
		return nil
	}
	return &InvalidError{What: "repository pattern", Why: quoted(pattern) + " is neither a repository, nor one with /* after it, nor *"}
}

func checkTag(name string) error {
	if !tagGrammar.MatchString(name) {
		return &InvalidError{What: "tag", Why: quoted(name) + " is not 1 to 128 letters, digits, _ . or -, the first not . or -"}
	}
	return nil
}

func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return &InvalidError{What: "digest", Why: quoted(d.String()) + ": " + err.Error()}
	}
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return &InvalidError{What: "digest", Why: quoted(d.String()) + ": only sha256 and sha512 are kept"}
	}
	return nil
}

func checkRepositoryAndDigest(repo string, d digest.Digest) error {
	if err := checkRepository(repo); err != nil {
		return err
	}
	return checkDigest(d)
}

// isID says whether id is one that this package made: it becomes part of a path, so nothing else may.
func isID(id string) bool {
	u, err := uuid.Parse(id)
	return err == nil && u.String() == id
}

// quoted is s for an error message, cut so that no input floods a log.
func quoted(s string) string {
	if len(s) > 100 {
		return fmt.Sprintf("%.100q…", s)
	}
	return fmt.Sprintf("%q", s)
}
