package admin

import (
	"context"
	"net/http"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Audit is what users did and were refused. *audit.Log is it.
type Audit interface {
	List(ctx context.Context, q api.AuditRequest) (api.AuditPage, error)
}

func (h *Handler) listAudit(r *http.Request, q api.AuditRequest) (api.AuditPage, error) {
	return h.audited.List(r.Context(), q)
}

// audit logs what an administrator did. Message and keys are fixed, as in package auth.
func (h *Handler) audit(r *http.Request, event string, args ...any) {
	h.log.With("event", event, "user", caller(r.Context()), "remote",
		r.RemoteAddr).InfoContext(r.Context(), "audit", args...)
}
