package admin

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/auth"
)

func (h *Handler) setWants(r *http.Request, q api.Wants) (api.None, error) {
	return api.None{}, h.store.Runs.Want(r.Context(), q.Key, q.Wants)
}

func (h *Handler) listWants(r *http.Request, _ api.None) ([]api.Wants, error) {
	wants, err := h.store.Runs.Wants(r.Context())
	all := []api.Wants{}
	for _, key := range slices.Sorted(maps.Keys(wants)) {
		all = append(all, api.Wants{Key: key, Wants: json.RawMessage(wants[key])})
	}
	return all, err
}

func (h *Handler) listNeeds(r *http.Request, q api.NeedsRequest) ([]api.Need, error) {
	if id, ok := auth.IdentityFrom(r.Context()); ok && id.Restricted() {
		return nil, &refusal{hint.New(errors.New("what needs an image is told to users who may see all repositories"),
			"ask an administrator"), http.StatusForbidden}
	}
	return h.catalogs.Needs(r.Context(), q)
}
