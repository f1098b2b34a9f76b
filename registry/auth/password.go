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
	// maxPasswordBytes is bcrypt's own limit: what comes after is not looked at, so
	// that a longer password would be checked only in part.
	maxPasswordBytes = 72
	maxNameBytes     = 255
)

// PasswordError reports a password that may not be used. It never holds the password.
type PasswordError struct{ Why string }

func (e *PasswordError) Error() string { return "password " + e.Why }

// Hint says what a password must be.
func (e *PasswordError) Hint() string {
	return fmt.Sprintf("use %d or more characters without whitespace or control characters, at most %d bytes", minPasswordRunes, maxPasswordBytes)
}

// NameError reports a user name that may not be used.
type NameError struct{ Name, Why string }

func (e *NameError) Error() string { return fmt.Sprintf("user name %q %s", e.Name, e.Why) }

// Hint says what a user name must be.
func (e *NameError) Hint() string {
	return "use letters, digits and . _ + @ - and begin with a letter or a digit"
}

// CheckPassword returns a *PasswordError unless pw may be used. The rule is the one that
// mirror-registry had, with bcrypt's upper limit.
func CheckPassword(pw string) error {
	switch {
	case strings.ContainsFunc(pw, unicode.IsSpace):
		return &PasswordError{Why: "contains whitespace"}
	case strings.ContainsFunc(pw, unicode.IsControl): // which HTTP's Basic does not allow
		return &PasswordError{Why: "contains control characters"}
	case utf8.RuneCountInString(pw) < minPasswordRunes:
		return &PasswordError{Why: fmt.Sprintf("is shorter than %d characters", minPasswordRunes)}
	case len(pw) > maxPasswordBytes:
		return &PasswordError{Why: fmt.Sprintf("is longer than %d bytes", maxPasswordBytes)}
	}
	return nil
}

// HashPassword returns the bcrypt hash to be kept in place of pw, which must satisfy CheckPassword.
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

// CheckName returns a *NameError unless name may be a user's. Quay's names and its robots'
// (owner+robot) are among those allowed. A colon cannot be: HTTP Basic ends the name there.
func CheckName(name string) error {
	switch {
	case name == "":
		return &NameError{Name: name, Why: "is empty"}
	case len(name) > maxNameBytes:
		return &NameError{Name: name[:32] + "…", Why: fmt.Sprintf("is longer than %d bytes", maxNameBytes)}
	case !alphanumeric(rune(name[0])):
		return &NameError{Name: name, Why: "does not begin with a letter or a digit"}
	}
	for _, c := range name {
		if !alphanumeric(c) && !strings.ContainsRune("._+@-", c) {
			return &NameError{Name: name, Why: fmt.Sprintf("contains %q", c)}
		}
	}
	return nil
}

func alphanumeric(c rune) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
