package auth

import (
	"slices"

	"github.com/mirror-appliance/appliance/internal/image"
)

// MayRepository reports whether the grants include the repository; the role limits the actions there. Grants do not limit
// administrators, which can change them.
func (i Identity) MayRepository(repo string) bool {
	return !i.Restricted() || image.MatchAny(i.Repositories, repo)
}

// MayPull reports whether the user may pull from the repository and the request's token covers it.
func (i Identity) MayPull(repo string) bool {
	return i.Sees(repo) && i.Covers(RepositoryScope(repo, ScopePull))
}

// Sees reports whether the user may pull from the repository and so may know of it. Repositories open to anonymous pulls
// need no grant.
func (i Identity) Sees(repo string) bool {
	return i.MayRepository(repo) || image.MatchAny(i.open, repo)
}

// Restricted reports whether the grants exclude any repository. A blank grant includes none.
func (i Identity) Restricted() bool {
	return i.Role != Admin && len(i.Repositories) > 0 && !slices.Contains(i.Repositories, image.All)
}
