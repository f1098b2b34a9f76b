package oci

import (
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/auth"
)

// authorize checks the grants of the request's user and the scopes of its token. RequireToken has
// checked the role. A request without an Identity has passed no Authenticator and is not limited.
func authorize(r *http.Request, t target) error {
	id, ok := auth.IdentityFrom(r.Context())
	if !ok || t.kind == kindBase {
		return nil
	}
	reads := reads(r.Method, t)
	if t.repo != "" && (reads && !id.Sees(t.repo) || !reads && (!id.MayRepository(t.repo) || id.Anonymous())) {
		return errGrant(r, id, t)
	}
	if !id.HasToken() {
		return nil
	}
	if need := scope(r.Method, t); !id.Covers(need) {
		return errScope(r, need)
	}
	return nil
}

// reads reports whether a request only reads content. Upload sessions need the right to
// push, even to read them.
func reads(method string, t target) bool {
	return (method == http.MethodGet || method == http.MethodHead) && t.kind != kindUpload && t.kind != kindUploads
}

// scope returns the scope that a request needs.
func scope(method string, t target) auth.Scope {
	switch {
	case t.kind == kindCatalog:
		return auth.CatalogScope()
	case reads(method, t):
		return auth.RepositoryScope(t.repo, auth.ScopePull)
	case method == http.MethodDelete && t.kind != kindUpload:
		return auth.RepositoryScope(t.repo, auth.ScopeDelete)
	}
	return auth.RepositoryScope(t.repo, auth.ScopePush)
}

// Scope returns the scope for the challenge of a request, "" for none.
func (a *API) Scope(r *http.Request) string {
	t, err := parse(r.URL.Path)
	if err != nil || t.kind == kindBase {
		return ""
	}
	return scope(r.Method, a.locate(r, t)).Challenge()
}

// errScope refuses a token without the scope, of a user who may get one with it.
func errScope(r *http.Request, need auth.Scope) error {
	return refuse(http.StatusUnauthorized, codeUnauthorized, "the token is not for %s", need).
		with("Www-Authenticate", auth.ChallengeFor(r, need))
}

// errGrant is the same whether or not the repository exists. Without a login it is 401: containerd
// sends its login only then.
func errGrant(r *http.Request, id auth.Identity, t target) error {
	if id.Anonymous() {
		return refuse(http.StatusUnauthorized, codeUnauthorized, "log in to use repository %.300s", t.repo).
			with("Www-Authenticate", auth.ChallengeFor(r, scope(r.Method, t)))
	}
	return refuse(http.StatusForbidden, codeDenied, "user %s may not use repository %.300s", id.Name, t.repo)
}

// mayPull reports whether the user of a request may pull from a repository.
func mayPull(r *http.Request, repo string) bool {
	id, ok := auth.IdentityFrom(r.Context())
	return !ok || id.MayPull(repo)
}

// A change is a line of the audit log. Message and keys are fixed, as in package auth.
type change struct {
	event  string // "push", "delete", "delete tag", "delete blob"
	repo   string
	tags   []string
	digest digest.Digest
}

// auditChange logs a change after it is done.
func (a *API) auditChange(r *http.Request, c change) {
	id, _ := auth.IdentityFrom(r.Context())
	a.audit.InfoContext(r.Context(), "audit", "event", c.event, "user", id.Name, "remote", r.RemoteAddr,
		"repository", c.repo, "tags", strings.Join(c.tags, ","), "digest", c.digest.String())
}
