package admin

import (
	"context"
	"net/http"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Link is the registry's way to other hosts.
type Link interface {
	Offline() bool
	// SetOffline cuts the link, or restores it, also for later starts.
	SetOffline(ctx context.Context, cut bool) error
}

func (h *Handler) getOffline(*http.Request, api.None) (api.Offline, error) {
	return api.Offline{Offline: h.link.Offline()}, nil
}

func (h *Handler) setOffline(r *http.Request, q api.Offline) (api.Offline, error) {
	if err := h.link.SetOffline(r.Context(), q.Offline); err != nil {
		return api.Offline{}, err
	}
	h.log.InfoContext(r.Context(), "link set", "offline", q.Offline, "by", caller(r.Context()))
	return q, nil
}

func (h *Handler) reloadUpstreams(r *http.Request, _ api.None) (api.None, error) {
	if h.reload == nil {
		return api.None{}, conflict("the registry is not running, so that there is nothing to reload", "it reads its configuration when it starts")
	}
	return api.None{}, h.reload(r.Context())
}
