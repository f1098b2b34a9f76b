package auth

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"
)

const (
	minPasswordRunes = 8
	// maxPasswordBytes is bcrypt's limit: it ignores the bytes after it.
	maxPasswordBytes = 72
	maxNameBytes     = 255
)

// An InvalidError reports a user name, password or role that does not satisfy the rules. It
// never holds the password.
type InvalidError struct{ text, hint string }

func (e *InvalidError) Error() string { return e.text }

// Hint returns the rule.
func (e *InvalidError) Hint() string { return e.hint }

// CheckPassword returns an *InvalidError unless pw satisfies the rule, which is
// mirror-registry's with bcrypt's limit.
func CheckPassword(pw string) error {
	var reason string
	switch {
	case !utf8.ValidString(pw):
		reason = "is not UTF-8"
	case strings.ContainsFunc(pw, unicode.IsSpace):
		reason = "contains whitespace"
	case strings.ContainsFunc(pw, unicode.IsControl): // HTTP Basic forbids them
		reason = "contains control characters"
	case utf8.RuneCountInString(pw) < minPasswordRunes:
		reason = fmt.Sprintf("is shorter than %d characters", minPasswordRunes)
	case len(pw) > maxPasswordBytes:
		reason = fmt.Sprintf("is longer than %d bytes", maxPasswordBytes)
	default:
		return nil
	}
	return &InvalidError{"password " + reason, fmt.Sprintf(
		"use %d or more characters without whitespace or control characters, at most %d bytes",
		minPasswordRunes, maxPasswordBytes)}
}

// HashPassword returns the bcrypt hash of pw, which must satisfy CheckPassword.
func HashPassword(pw string) ([]byte, error) {
	if err := CheckPassword(pw); err != nil {
		return nil, err
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(pw), bcrypt.DefaultCost)
	if err != nil {
		return nil, fmt.Errorf("hash password: %w", err)
	}
	return hash, nil
}

// CheckHash returns an *InvalidError unless hash is one of bcrypt that logins can be checked by.
func CheckHash(hash string) error {
	if cost := costOf([]byte(hash)); cost < bcrypt.MinCost || cost > maxCost {
		return &InvalidError{"the hash of the password is not usable", fmt.Sprintf("use a hash of bcrypt with a cost of at most %d", maxCost)}
	}
	return nil
}

// CheckName returns an *InvalidError unless name is a valid user name. The names of Quay and of its
// robots (owner+robot) are. A colon is not: it ends the name in HTTP Basic.
func CheckName(name string) error {
	var reason string
	invalid := strings.IndexFunc(name, func(c rune) bool {
		return !alphanumeric(c) &&
			!strings.ContainsRune("._+@-", c)
	})
	switch {
	case name == "":
		reason = "is empty"
	case len(name) > maxNameBytes:
		name, reason = name[:32]+"…", fmt.Sprintf("is longer than %d bytes", maxNameBytes)
	case !alphanumeric(rune(name[0])):
		reason = "does not begin with a letter or a digit"
	case invalid >= 0:
		c, _ := utf8.DecodeRuneInString(name[invalid:])
		reason = fmt.Sprintf("contains %q", c)
	default:
		return nil
	}
	return &InvalidError{fmt.Sprintf("user name %q %s", name, reason),
		"use letters, digits and . _ + @ - and begin with a letter or a digit"}
}

func alphanumeric(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
