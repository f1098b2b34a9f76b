package oci

import (
	"fmt"
	"net/http"

	"github.com/mirror-appliance/appliance/registry/auth"
)

// granted refuses a request for a repository that its user's grants do not reach. Roles have been
// asked already, by auth.Authenticator.Require. A request that has come past no Authenticator has no
// Identity and no limits.
func granted(r *http.Request, t target) error {
	id, ok := auth.IdentityFrom(r.Context())
	if !ok || t.repo == "" {
		return nil
	}
	if Action(r) == auth.Read && !id.MayPull(t.repo) || Action(r) != auth.Read && !id.MayRepository(t.repo) {
		return errGrant(id, t.repo)
	}
	return nil
}

// errGrant is 401 for a request without a login: containerd sends the login that it has only if asked.
// It is the same whether or not there is such a repository.
func errGrant(id auth.Identity, repo string) error {
	if id.Anonymous() {
		return &problem{status: http.StatusUnauthorized, code: codeUnauthorized, message: fmt.Sprintf("log in to use repository %.300s", repo),
			header: map[string]string{"Www-Authenticate": auth.Challenge}}
	}
	return &problem{status: http.StatusForbidden, code: codeDenied, message: fmt.Sprintf("user %s may not use repository %.300s", id.Name, repo)}
}

// mayPull reports whether the user of a request may pull from a repository.
func mayPull(r *http.Request, repo string) bool {
	id, ok := auth.IdentityFrom(r.Context())
	return !ok || id.MayPull(repo)
}
