package registry

import (
	"context"
	"errors"

	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/store"
)

// users lets the authenticator, which knows no store, look users up in ours.
type users struct{ store *store.Store }

func (u users) Lookup(ctx context.Context, name string) (auth.Record, bool, error) {
	found, err := u.store.Users.Get(ctx, name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return auth.Record{}, false, nil
	case err != nil:
		return auth.Record{}, false, err
	}
	return auth.Record{Role: found.Role, PasswordHash: found.PasswordHash, Repositories: found.Repositories}, true, nil
}
