package oci

import (
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/auth"
)

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
