package auth

import (
	"fmt"
	"slices"

	"github.com/mirror-appliance/appliance/internal/image"
)

// A Role is the set of actions that a user may do.
type Role string

const (
	Admin Role = "admin" // everything, the control API included
	Push  Role = "push"  // read and change content
	Pull  Role = "pull"  // read content; the role for the nodes of a cluster
)

// An Action is the kind of a request.
type Action int

const (
	Read       Action = iota // read content
	Write                    // push or delete content
	Administer               // change users, collect, synchronise
	Login                    // check a name and a password; never anonymous
)

// ParseRole returns the role of that name, or an *InvalidError.
func ParseRole(s string) (Role, error) {
	switch r := Role(s); r {
	case Admin, Push, Pull:
		return r, nil
	}
	return "", &InvalidError{fmt.Sprintf("unknown role %q", s), "use one of: admin, push, pull"}
}

// May reports whether the role allows the action. An unknown role allows none.
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

// MayRepository reports whether the grants include the repository; the role limits the actions
// there. Grants do not limit administrators, which can change them.
func (i Identity) MayRepository(repo string) bool {
	return !i.Restricted() || image.MatchAny(i.Repositories, repo)
}

// MayPull reports whether the user may pull from the repository and the request's token covers it.
func (i Identity) MayPull(repo string) bool {
	return i.Sees(repo) && i.Covers(RepositoryScope(repo, ScopePull))
}

// Sees reports whether the user may pull from the repository and so may know of it. Repositories
// open to anonymous pulls need no grant.
func (i Identity) Sees(repo string) bool {
	return i.MayRepository(repo) || image.MatchAny(i.open, repo)
}

// Seen returns the patterns of the repositories that Sees reports of a restricted user.
func (i Identity) Seen() []string { return slices.Concat(i.Repositories, i.open) }

// Restricted reports whether the grants exclude any repository. A blank grant includes none.
func (i Identity) Restricted() bool {
	return i.Role != Admin && len(i.Repositories) > 0 && !slices.Contains(i.Repositories, image.All)
}
