package auth

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

type identityKey struct{}

// IdentityFrom returns the user whose request this context belongs to.
func IdentityFrom(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(identityKey{}).(Identity)
	return id, ok
}

// Require lets a request through to next if its user may do the action, with the Identity in its
// context. Otherwise denied answers, with 401 (not logged in; the challenge is set already),
// 403 (may not), 429 (too many failed logins; Retry-After is set already) or 503 (could not be
// found out). Which repositories a user may touch, next has to ask of the Identity. A token is no login here.
func (a *Authenticator) Require(action func(*http.Request) Action, next http.Handler, denied func(w http.ResponseWriter, r *http.Request, status int)) http.Handler {
	return require(action, a.identify, func(*http.Request, Action) []string { return []string{Challenge} }, next, denied)
}

// RequireToken is Require for the registry API, where a token does as well as a password. scope is what the request
// needs a token for; whether the token that it has is good for that, next has to ask of the Identity, too.
func (a *Authenticator) RequireToken(action func(*http.Request) Action, scope func(*http.Request) string, next http.Handler, denied func(w http.ResponseWriter, r *http.Request, status int)) http.Handler {
	identify := func(r *http.Request, action Action) (Identity, refusal) {
		if token, ok := bearer(r); ok {
			return a.holder(r, token, action)
		}
		return a.identify(r, action)
	}
	challenges := func(r *http.Request, action Action) []string { return a.challenges(r, action, scope(r)) }
	return require(action, identify, challenges, next, denied)
}

func require(action func(*http.Request) Action, identify func(*http.Request, Action) (Identity, refusal), challenges func(*http.Request, Action) []string,
	next http.Handler, denied func(w http.ResponseWriter, r *http.Request, status int)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		action := action(r)
		id, f := identify(r, action)
		switch f.status {
		case 0:
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, id)))
			return
		case http.StatusUnauthorized:
			w.Header()["Www-Authenticate"] = challenges(r, action)
		case http.StatusTooManyRequests:
			w.Header().Set("Retry-After", strconv.Itoa(seconds(f.wait)))
		}
		denied(w, r, f.status)
	})
}

// seconds rounds up: who comes back too early would be refused again.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// A refusal is the status that says why a request is not let through, 0 if it is.
type refusal struct {
	status int
	wait   time.Duration // with 429
}

// identify finds out who sent the request and whether they may do the action.
func (a *Authenticator) identify(r *http.Request, action Action) (Identity, refusal) {
	name, password, ok := r.BasicAuth()
	if !ok || name == "" && password == "" {
		return a.nobody(action)
	}
	id, f := a.login(r, name, password)
	if f.status == 0 && !id.Role.May(action) {
		a.audit(r, "refused", id.Name)
		f.status = http.StatusForbidden
	}
	return id, f
}

// holder finds out for whom a token was issued and whether they may do the action. A request whose token was issued
// without a login is let through as long as it only reads; what else it lacks is told by next, which knows the scope.
func (a *Authenticator) holder(r *http.Request, token string, action Action) (Identity, refusal) {
	id, err := a.redeem(r.Context(), token)
	switch {
	case errors.Is(err, errToken):
		return Identity{}, refusal{status: http.StatusUnauthorized}
	case err != nil:
		a.Log.ErrorContext(r.Context(), "token could not be checked", "remote", r.RemoteAddr, "err", err)
		return Identity{}, refusal{status: http.StatusServiceUnavailable}
	case !id.Anonymous() && !id.Role.May(action):
		a.audit(r, "refused", id.Name)
		return id, refusal{status: http.StatusForbidden}
	}
	return id, refusal{}
}

// nobody is a request without a login: how every client begins, so there is nothing to report.
//
// For pulls without a login to work and logins to go on working, what clients do decides:
//
//   - podman, skopeo, CRI-O, oc-mirror (containers/image) and crane ask for /v2/ first, and send the
//     password that they have only if that is answered with a challenge. So /v2/, the one path whose
//     action is Login, is always 401 for nobody: else every push would arrive without its password, and
//     podman login would call any password right. containers/image goes on after the challenge when it
//     has no password, with an empty name and an empty password: that is nobody as well. crane goes on
//     with no header at all.
//   - containerd does not ask for /v2/. It sends its password when the thing itself answers 401, so what
//     is not open to all must answer that, not 403 (see oci).
//   - docker, and `oc image` and `oc adm release`, which are made of its library, give up after a Basic challenge
//     when they have no password ("no basic auth credentials"). They are offered a token, see challenges.
func (a *Authenticator) nobody(action Action) (Identity, refusal) {
	if action == Read && len(a.Anonymous) > 0 {
		return Identity{Role: Pull, Repositories: a.Anonymous}, refusal{}
	}
	return Identity{}, refusal{status: http.StatusUnauthorized}
}

// login checks name and password, unless there were too many wrong ones lately.
func (a *Authenticator) login(r *http.Request, name, password string) (Identity, refusal) {
	d := a.digestOf(name, password)
	name = kept(name)
	attempt, wait := a.backoff.admit(SourceOf(r.RemoteAddr), name, d)
	if wait > 0 {
		// The failures that led here are in the audit log. At this rate it is for debugging only.
		a.Log.DebugContext(r.Context(), "login put off: too many failed", "user", printable(name), "remote", r.RemoteAddr)
		return Identity{}, refusal{http.StatusTooManyRequests, wait}
	}
	ctx := r.Context()
	if attempt.suspect {
		ctx = context.WithValue(ctx, suspectKey{}, true)
	}
	id, err := a.authenticate(ctx, d, name, password)
	switch {
	case err == nil:
		a.backoff.succeeded(attempt)
		return id, refusal{}
	case errors.Is(err, ErrDenied):
		a.backoff.failed(attempt)
		a.audit(r, "login failed", printable(name))
		return Identity{}, refusal{status: http.StatusUnauthorized}
	}
	a.backoff.undecided(attempt)
	if r.Context().Err() == nil { // else the client went away and nobody reads the answer
		a.Log.ErrorContext(r.Context(), "login could not be checked", "user", printable(name), "remote", r.RemoteAddr, "err", err)
	}
	return Identity{}, refusal{status: http.StatusServiceUnavailable}
}

// audit writes the line of a login or a request that was refused. Its message and keys are fixed, for
// programs that read the log; package oci writes lines of the same form.
func (a *Authenticator) audit(r *http.Request, event, user string) {
	log := a.Audit
	if log == nil {
		log = a.Log
	}
	log.WarnContext(r.Context(), "audit", "event", event, "user", user, "remote", r.RemoteAddr, "method", r.Method, "path", r.URL.Path)
}

// kept is a name as it may be remembered. As it came it is a part of the header's text, which would stay in memory
// with it: the password as well. What is no user name is kept under none, since it may be as long as headers can be.
func kept(name string) string {
	if CheckName(name) != nil {
		return ""
	}
	return strings.Clone(name)
}

// printable keeps what is no user name at all (a megabyte of it, say) out of the log.
func printable(name string) string {
	if CheckName(name) != nil {
		return "(not a user name)"
	}
	return name
}
