package auth

import "fmt"

// A Role is what a user is allowed to be.
type Role string

const (
	Admin Role = "admin" // everything, the control API included
	Push  Role = "push"  // read and change content
	Pull  Role = "pull"  // read content; what goes to every node of a cluster
)

// An Action is what a request wants to do.
type Action int

const (
	Read       Action = iota // look at content
	Write                    // push or delete content
	Administer               // change users, collect, synchronise
	Login                    // find out whether name and password are right; nobody does that without
)

// RoleError reports a role that does not exist.
type RoleError struct{ Role string }

func (e *RoleError) Error() string { return fmt.Sprintf("unknown role %q", e.Role) }

// Hint says which roles there are.
func (e *RoleError) Hint() string { return "use one of: admin, push, pull" }

// ParseRole returns the role of that name, or a *RoleError.
func ParseRole(s string) (Role, error) {
	switch r := Role(s); r {
	case Admin, Push, Pull:
		return r, nil
	}
	return "", &RoleError{Role: s}
}

// May reports whether the role allows the action. A role that does not exist allows nothing.
func (r Role) May(a Action) bool {
	switch a {
	case Read, Login:
		return r == Admin || r == Push || r == Pull
	case Write:
		return r == Admin || r == Push
	case Administer:
		return r == Admin
	}
	return false
}
