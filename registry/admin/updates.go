package admin

import (
	"context"
	"net/http"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Updates is the update service.
type Updates interface {
	Describe(ctx context.Context, q api.UpdatesRequest) (api.Updates, error)
}

func (h *Handler) getUpdates(r *http.Request, q api.UpdatesRequest) (api.Updates, error) {
	return h.updates.Describe(r.Context(), q)
}
