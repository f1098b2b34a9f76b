package admin

import (
	"net/http"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

func (h *Handler) setWants(r *http.Request, q api.Wants) (api.None, error) {
	return api.None{}, h.store.Runs.Want(r.Context(), q.Key, q.Wants)
}

func (h *Handler) listNeeds(r *http.Request, q api.NeedsRequest) ([]api.Need, error) {
	return h.catalogs.Needs(r.Context(), q)
}
