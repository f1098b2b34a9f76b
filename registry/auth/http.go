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

// IdentityFrom returns the user of the request that has this context.
func IdentityFrom(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(identityKey{}).(Identity)
	return id, ok
}

// Require passes a request to next, with the Identity in its context, if its user may do the
// action. Otherwise denied answers it: with 401 (no or a wrong login; the challenge is set), 403
// (not allowed), 429 (too many failed logins; Retry-After is set) or 503 (could not be checked).
// next checks the repositories. Tokens are not accepted.
func (a *Authenticator) Require(action func(*http.Request) Action, next http.Handler,
	denied func(w http.ResponseWriter, r *http.Request, status int)) http.Handler {
	challenges := func(*http.Request, Action) []string { return []string{challenge} }
	return require(action, a.identify, challenges, next, denied)
}

// RequireToken is Require for the registry API, which accepts tokens too. scope returns the scope
// for the challenge; next checks whether the token covers it.
func (a *Authenticator) RequireToken(action func(*http.Request) Action,
	scope func(*http.Request) string, next http.Handler,
	denied func(w http.ResponseWriter, r *http.Request, status int)) http.Handler {
	identify := func(r *http.Request, action Action) (Identity, refusal) {
		if token, ok := bearer(r); ok {
			return a.holder(r, token, action)
		}
		return a.identify(r, action)
	}
	challenges := func(r *http.Request, action Action) []string { return a.challenges(r, action, scope(r)) }
	return require(action, identify, challenges, next, denied)
}

func require(action func(*http.Request) Action,
	identify func(*http.Request, Action) (Identity, refusal), challenges func(*http.Request, Action) []string,
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

// seconds rounds up: a client that returns too early would be refused again.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// A refusal is the status of a refused request, 0 if it is not refused.
type refusal struct {
	status int
	wait   time.Duration // with 429
}

// identify authenticates a request and checks that its user may do the action.
func (a *Authenticator) identify(r *http.Request, action Action) (Identity, refusal) {
	name, password, ok := r.BasicAuth()
	if !ok || name == "" && password == "" {
		return a.anonymous(action)
	}
	id, f := a.login(r, name, password)
	if f.status == 0 && !id.Role.May(action) {
		a.audit(r, "refused", id.Name)
		f.status = http.StatusForbidden
	}
	return id, f
}

// holder authenticates a request with a token and checks that its user may do the action. next
// judges an anonymous token: it knows the scope.
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

// anonymous authenticates a request without a login. Every client begins with one, so a
// refusal is not logged.
//
// The behaviour of clients decides which answer keeps both anonymous pulls and logins working:
//
//   - podman, skopeo, CRI-O, oc-mirror (containers/image) and crane request /v2/ first and send a
//     password only after a challenge. So /v2/, the one path whose action is Login, always answers
//     401: otherwise pushes would arrive without a password, and podman login would accept any.
//     Without a password containers/image goes on after the challenge with an empty name and
//     password, which is anonymous too; crane goes on without the header.
//   - containerd does not request /v2/. It sends its password after a 401 to the request itself, so
//     content that is not open must answer 401, not 403 (see oci).
//   - docker, `oc image` and `oc adm release` give up after a Basic challenge when they have no
//     password ("no basic auth credentials"). They are offered a token, see challenges.
func (a *Authenticator) anonymous(action Action) (Identity, refusal) {
	if action == Read && len(a.Anonymous) > 0 {
		return Identity{Role: Pull, Repositories: a.Anonymous}, refusal{}
	}
	return Identity{}, refusal{status: http.StatusUnauthorized}
}

// login checks name and password unless the backoff refuses.
func (a *Authenticator) login(r *http.Request, name, password string) (Identity, refusal) {
	d := a.digestOf(name, password)
	name = clone(name)
	attempt, wait := a.backoff.admit(SourceOf(r.RemoteAddr), name, d)
	if wait > 0 {
		// The failures before this one are in the audit log; clients may repeat this one often.
		a.Log.DebugContext(r.Context(), "login refused: too many failed", "user", printable(name),
			"remote", r.RemoteAddr)
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
	case errors.Is(err, errDenied):
		a.backoff.failed(attempt)
		a.audit(r, "login failed", printable(name))
		return Identity{}, refusal{status: http.StatusUnauthorized}
	}
	a.backoff.undecided(attempt)
	if r.Context().Err() == nil { // else the client went away
		a.Log.ErrorContext(r.Context(), "login could not be checked", "user", printable(name),
			"remote", r.RemoteAddr, "err", err)
	}
	return Identity{}, refusal{status: http.StatusServiceUnavailable}
}

// audit logs a refused login or request. Message and keys are fixed, for programs that read the
// log; package oci logs the same form.
func (a *Authenticator) audit(r *http.Request, event, user string) {
	log := a.Audit
	if log == nil {
		log = a.Log
	}
	log.WarnContext(r.Context(), "audit", "event", event, "user", user, "remote", r.RemoteAddr,
		"method", r.Method, "path", r.URL.Path)
}

// clone returns a copy of a user name for the memory: the original is a slice of the header, with
// the password. A name that is not valid may be as long as a header and becomes "".
func clone(name string) string {
	if CheckName(name) != nil {
		return ""
	}
	return strings.Clone(name)
}

// printable keeps names that are not valid, and may be megabytes, out of the log.
func printable(name string) string {
	if CheckName(name) != nil {
		return "(not a user name)"
	}
	return name
}
