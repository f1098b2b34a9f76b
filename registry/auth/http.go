package auth

import (
	"context"
	"errors"
	"net/http"
)

// Challenge is the WWW-Authenticate header of every 401: without it podman and docker
// give up instead of sending the password that they have.
const Challenge = `Basic realm="appliance", charset="UTF-8"`

type identityKey struct{}

// IdentityFrom returns the user whose request this context belongs to.
func IdentityFrom(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(identityKey{}).(Identity)
	return id, ok
}

// Require lets a request through to next if its user may do the action, with the Identity in its
// context. Otherwise denied answers, with 401 (not logged in; the challenge is set already),
// 403 (may not) or 503 (could not be found out).
func (a *Authenticator) Require(action func(*http.Request) Action, next http.Handler, denied func(w http.ResponseWriter, r *http.Request, status int)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, status := a.identify(r)
		if status == http.StatusOK && !id.Role.May(action(r)) {
			a.Log.WarnContext(r.Context(), "refused: not allowed to this user", "user", id.Name, "role", string(id.Role),
				"method", r.Method, "path", r.URL.Path, "remote", r.RemoteAddr)
			status = http.StatusForbidden
		}
		switch status {
		case http.StatusOK:
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, id)))
			return
		case http.StatusUnauthorized:
			w.Header().Set("WWW-Authenticate", Challenge)
		}
		denied(w, r, status)
	})
}

// identify finds out who sent the request. A status other than 200 says why it could not.
func (a *Authenticator) identify(r *http.Request) (Identity, int) {
	name, password, ok := r.BasicAuth()
	if !ok {
		return Identity{}, http.StatusUnauthorized // how every client begins: nothing to report
	}
	id, err := a.Authenticate(r.Context(), name, password)
	switch {
	case err == nil:
		return id, http.StatusOK
	case errors.Is(err, ErrDenied):
		a.Log.WarnContext(r.Context(), "login failed", "user", printable(name), "remote", r.RemoteAddr)
		return Identity{}, http.StatusUnauthorized
	case r.Context().Err() != nil: // the client went away; nobody reads the answer
		return Identity{}, http.StatusServiceUnavailable
	}
	a.Log.ErrorContext(r.Context(), "login could not be checked", "user", printable(name), "remote", r.RemoteAddr, "err", err)
	return Identity{}, http.StatusServiceUnavailable
}

// printable keeps what is no user name at all (a megabyte of it, say) out of the log.
func printable(name string) string {
	if CheckName(name) != nil {
		return "(not a user name)"
	}
	return name
}
