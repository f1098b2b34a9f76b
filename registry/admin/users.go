package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/store"
)

func (h *Handler) listUsers(r *http.Request) (int, any, error) {
	all, err := h.store.Users(r.Context())
	if err != nil {
		return 0, nil, err
	}
	users := make([]User, 0, len(all))
	for _, u := range all {
		users = append(users, public(u))
	}
	return http.StatusOK, users, nil
}

func public(u store.User) User {
	return User{Name: u.Name, Role: u.Role, Created: u.Created, Updated: u.Updated, Repositories: u.Repositories}
}

func (h *Handler) createUser(r *http.Request) (int, any, error) {
	var q NewUser
	if err := decode(r, maxJSON, &q); err != nil {
		return 0, nil, err
	}
	if err := auth.CheckName(q.Name); err != nil {
		return 0, nil, err
	}
	if err := checkGrants(q.Repositories); err != nil {
		return 0, nil, err
	}
	u := store.User{Name: q.Name, Repositories: q.Repositories}
	if err := apply(&u, q.Role, q.Password); err != nil {
		return 0, nil, err
	}
	h.users.Lock()
	defer h.users.Unlock()
	if _, err := h.store.User(r.Context(), q.Name); err == nil {
		return 0, nil, &conflict{fmt.Sprintf("there is a user %s already", q.Name), "choose another name, or change that user"}
	} else if !errors.Is(err, store.ErrNotFound) {
		return 0, nil, err
	}
	return h.putUser(r, http.StatusCreated, "user created", u)
}

func (h *Handler) changeUser(r *http.Request) (int, any, error) {
	var q UserChange
	if err := decode(r, maxJSON, &q); err != nil {
		return 0, nil, err
	}
	if q == (UserChange{}) {
		return 0, nil, &badRequest{"nothing to change", "give a role, a password or repositories"}
	}
	h.users.Lock()
	defer h.users.Unlock()
	u, err := h.store.User(r.Context(), r.PathValue("name"))
	if err != nil {
		return 0, nil, err
	}
	was := u
	if q.Repositories != nil {
		if err := checkGrants(*q.Repositories); err != nil {
			return 0, nil, err
		}
		u.Repositories = *q.Repositories
	}
	if q.Role == "" {
		q.Role = u.Role
	}
	if err := apply(&u, q.Role, q.Password); err != nil {
		return 0, nil, err
	}
	if u.Role != string(auth.Admin) {
		if err := h.keepAdmin(r.Context(), was); err != nil {
			return 0, nil, err
		}
	}
	return h.putUser(r, http.StatusOK, "user changed", u)
}

func (h *Handler) deleteUser(r *http.Request) (int, any, error) {
	h.users.Lock()
	defer h.users.Unlock()
	u, err := h.store.User(r.Context(), r.PathValue("name"))
	if err != nil {
		return 0, nil, err
	}
	if err := h.keepAdmin(r.Context(), u); err != nil {
		return 0, nil, err
	}
	if err := h.store.DeleteUser(r.Context(), u.Name); err != nil {
		return 0, nil, err
	}
	h.auth.Forget(u.Name)
	h.log.InfoContext(r.Context(), "audit", "event", "user removed", "user", by(r.Context()), "remote", r.RemoteAddr, "name", u.Name)
	return http.StatusNoContent, nil, nil
}

// checkGrants refuses a list that is there and has nothing in it: a script that meant to name repositories would
// grant all.
func checkGrants(patterns []string) error {
	if patterns != nil && len(patterns) == 0 {
		return &badRequest{"repositories is an empty list", `name repositories, or all of them with ["*"]`}
	}
	return image.CheckPatterns(patterns)
}

// apply sets the role and, unless it is empty for a user that has one, the password.
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

func (h *Handler) putUser(r *http.Request, status int, event string, u store.User) (int, any, error) {
	if err := h.store.PutUser(r.Context(), u); err != nil {
		return 0, nil, err
	}
	h.auth.Forget(u.Name)
	h.log.InfoContext(r.Context(), "audit", "event", event, "user", by(r.Context()), "remote", r.RemoteAddr, "name", u.Name, "role", u.Role)
	now, err := h.store.User(r.Context(), u.Name)
	return status, public(now), err
}

// keepAdmin refuses to take u away as an administrator if there is no other. h.users is held.
func (h *Handler) keepAdmin(ctx context.Context, u store.User) error {
	if u.Role != string(auth.Admin) {
		return nil
	}
	all, err := h.store.Users(ctx)
	if err != nil {
		return err
	}
	for _, other := range all {
		if other.Role == string(auth.Admin) && other.Name != u.Name {
			return nil
		}
	}
	return &conflict{fmt.Sprintf("%s is the last administrator", u.Name), "make another user an admin first"}
}
