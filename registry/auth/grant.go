package auth

import (
	"slices"

	"github.com/mirror-appliance/appliance/internal/image"
)

// MayRepository reports whether the grants reach the repository. What may be done there is the role's
// to say. An administrator's grants are not looked at: who can change them has no use for them.
func (i Identity) MayRepository(repo string) bool {
	return !i.Restricted() || image.MatchAny(i.Repositories, repo)
}

// MayPull reports whether this request may pull from the repository: the user may, and the token covers it.
func (i Identity) MayPull(repo string) bool {
	return i.Sees(repo) && i.Covers(RepositoryScope(repo, ScopePull))
}

// Sees reports whether the user may pull from the repository, and so may know of it: also what everybody may pull,
// granted or not.
func (i Identity) Sees(repo string) bool {
	return i.MayRepository(repo) || image.MatchAny(i.open, repo)
}

// Restricted reports whether there are repositories that the grants do not reach. Grants that are there and are blank
// reach none.
func (i Identity) Restricted() bool {
	return i.Role != Admin && len(i.Repositories) > 0 && !slices.Contains(i.Repositories, image.All)
}
