package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/store"
)

func (h *Handler) listUsers(r *http.Request, _ api.None) ([]api.User, error) {
	all, err := h.store.Users.List(r.Context())
	users := make([]api.User, 0, len(all))
	for _, u := range all {
		users = append(users, public(u))
	}
	return users, err
}

func public(u store.User) api.User {
	return api.User{Name: u.Name, Role: u.Role, Created: u.Created, Updated: u.Updated, Repositories: u.Repositories}
}

func (h *Handler) createUser(r *http.Request, q api.NewUser) (api.User, error) {
	if err := auth.CheckName(q.Name); err != nil {
		return api.User{}, err
	}
	if err := checkGrants(q.Repositories); err != nil {
		return api.User{}, err
	}
	u := store.User{Name: q.Name, Repositories: q.Repositories}
	if q.PasswordHash != "" {
		if err := auth.CheckHash(q.PasswordHash); err != nil {
			return api.User{}, err
		}
		if q.Password != "" {
			return api.User{}, badRequest("there are a password and the hash of one", "send one of them")
		}
		u.PasswordHash = []byte(q.PasswordHash)
	}
	if err := apply(&u, q.Role, q.Password); err != nil {
		return api.User{}, err
	}
	h.users.Lock()
	defer h.users.Unlock()
	if _, err := h.store.Users.Get(r.Context(), q.Name); err == nil {
		return api.User{}, conflict(fmt.Sprintf("there is a user %s already", q.Name),
			"choose another name, or change that user")
	} else if !errors.Is(err, store.ErrNotFound) {
		return api.User{}, err
	}
	return h.putUser(r, "user created", u)
}

func (h *Handler) changeUser(r *http.Request, q api.UserChange) (api.User, error) {
	h.users.Lock()
	defer h.users.Unlock()
	u, err := h.store.Users.Get(r.Context(), r.PathValue("name"))
	if err != nil {
		return api.User{}, err
	}
	was := u
	if q.Repositories != nil {
		if err := checkGrants(*q.Repositories); err != nil {
			return api.User{}, err
		}
		u.Repositories = *q.Repositories
	}
	if err := apply(&u, cmp.Or(q.Role, u.Role), q.Password); err != nil {
		return api.User{}, err
	}
	if u.Role != string(auth.Admin) {
		if err := h.keepAdmin(r.Context(), was); err != nil {
			return api.User{}, err
		}
	}
	return h.putUser(r, "user changed", u)
}

func (h *Handler) deleteUser(r *http.Request, _ api.None) (api.None, error) {
	h.users.Lock()
	defer h.users.Unlock()
	u, err := h.store.Users.Get(r.Context(), r.PathValue("name"))
	if err != nil {
		return api.None{}, err
	}
	if err := h.keepAdmin(r.Context(), u); err != nil {
		return api.None{}, err
	}
	if err := h.store.Users.Delete(r.Context(), u.Name); err != nil {
		return api.None{}, err
	}
	h.auth.Forget(u.Name)
	h.audit(r, "user removed", "name", u.Name)
	return api.None{}, nil
}

// checkGrants rejects an empty list: a script that meant to name repositories would grant all.
func checkGrants(patterns []string) error {
	if patterns != nil && len(patterns) == 0 {
		return badRequest("repositories is an empty list", `name repositories, or all of them with ["*"]`)
	}
	return image.CheckPatterns(patterns)
}

// apply sets the role and the password, which may be empty for a user that has one.
func apply(u *store.User, role, password string) error {
	known, err := auth.ParseRole(role)
	if err != nil {
		return err
	}
	u.Role = string(known)
	if password == "" && u.PasswordHash != nil {
		return nil
	}
	if err := auth.CheckPassword(password); err != nil {
		return err
	}
	u.PasswordHash, err = auth.HashPassword(password)
	return err
}

func (h *Handler) putUser(r *http.Request, event string, u store.User) (api.User, error) {
	if err := h.store.Users.Put(r.Context(), u); err != nil {
		return api.User{}, err
	}
	h.auth.Forget(u.Name)
	h.audit(r, event, "name", u.Name, "role", u.Role)
	now, err := h.store.Users.Get(r.Context(), u.Name)
	return public(now), err
}

// keepAdmin returns an error if u is the last administrator. The caller holds h.users.
func (h *Handler) keepAdmin(ctx context.Context, u store.User) error {
	if u.Role != string(auth.Admin) {
		return nil
	}
	all, err := h.store.Users.List(ctx)
	if err != nil {
		return err
	}
	for _, other := range all {
		if other.Role == string(auth.Admin) && other.Name != u.Name {
			return nil
		}
	}
	return conflict(fmt.Sprintf("%s is the last administrator", u.Name), "make another user an admin first")
}
