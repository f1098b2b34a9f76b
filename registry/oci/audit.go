package oci

import (
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/auth"
)

// A change is one line of the audit log: message "audit" and always the same keys, as in package auth.
type change struct {
	event  string // "push", "delete", "delete tag", "delete blob"
	repo   string
	tags   []string
	digest digest.Digest
}

// changed notes what a request has done, after it is done.
func (a *API) changed(r *http.Request, c change) {
	id, _ := auth.IdentityFrom(r.Context())
	a.audit.InfoContext(r.Context(), "audit", "event", c.event, "user", id.Name, "remote", r.RemoteAddr,
		"repository", c.repo, "tags", strings.Join(c.tags, ","), "digest", c.digest.String())
}
