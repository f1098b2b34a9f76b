package updates

import (
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/store"
)

// trust decides which images clusters may be directed by. What is offered, and what is blocked, is for
// each cluster of the site: a user whose grants are limited to some repositories must not decide it
// by a push to one of these.
//
// An image counts if a run has put its tag there, which is for administrators; if pull-through has
// brought it; or if no user with limited grants may push to its repository.
type trust struct {
	store   *store.Store
	limited []auth.Identity // users who may push, but not to each repository
	pulled  map[string]map[digest.Digest]bool
}

func newTrust(ctx context.Context, s *store.Store) (*trust, error) {
	users, err := s.Users.List(ctx)
	if err != nil {
		return nil, err
	}
	t := &trust{store: s, pulled: map[string]map[digest.Digest]bool{}}
	for _, u := range users {
		i := auth.Identity{Name: u.Name, Role: auth.Role(u.Role), Repositories: u.Repositories}
		if i.Role == auth.Push && i.Restricted() {
			t.limited = append(t.limited, i)
		}
	}
	return t, nil
}

// distrust returns why an image does not count in a repository, "" if it does. An image without a tag is
// one that pull-through has brought.
func (t *trust) distrust(ctx context.Context, of store.Tag) (string, error) {
	at := slices.IndexFunc(t.limited, func(i auth.Identity) bool { return i.MayRepository(of.Repository) })
	if at < 0 || of.Name == "" {
		return "", nil
	}
	pulled, err := t.pulledIn(ctx, of.Repository)
	if err != nil || pulled[of.Digest] {
		return "", err
	}
	moves, err := t.store.Tags.Moves(ctx, of.Repository, of.Name)
	if err != nil {
		return "", err
	}
	if n := len(moves); n > 0 && moves[n-1].Run.ID != "" && moves[n-1].Became == of.Digest {
		return "", nil
	}
	return fmt.Sprintf("it does not count: user %s, who may push to some repositories only, may push to this one; "+
		"mirror it, or have a user push it who may push to all, into a repository which the other may not push to", t.limited[at].Name), nil
}

// pulledIn returns what pull-through has brought to a repository.
func (t *trust) pulledIn(ctx context.Context, repository string) (map[digest.Digest]bool, error) {
	if all, ok := t.pulled[repository]; ok {
		return all, nil
	}
	tags, err := t.store.Manifests.PulledIn(ctx, repository)
	if err != nil {
		return nil, err
	}
	all := map[digest.Digest]bool{}
	for _, tag := range tags {
		all[tag.Digest] = true
	}
	t.pulled[repository] = all
	return all, nil
}
