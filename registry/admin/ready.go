package admin

import (
	"context"
	"net/http"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Verdicts are those that the daemon makes without a caller.
type Verdicts interface {
	State(ctx context.Context) api.ReadyState
	// Stop ends the one that is being made, if there is any.
	Stop(ctx context.Context) (running bool)
	// ImageSet returns an image set that brings what the last one lacks.
	ImageSet(ctx context.Context) (string, error)
}

func (h *Handler) getReady(r *http.Request, _ api.None) (api.ReadyState, error) {
	if err := h.isDaemon(); err != nil {
		return api.ReadyState{}, err
	}
	return h.verdicts.State(r.Context()), nil
}

// stopReady ends a verdict. That there is none is no error: it may have ended just now.
func (h *Handler) stopReady(r *http.Request, _ api.None) (api.None, error) {
	if err := h.isDaemon(); err != nil {
		return api.None{}, err
	}
	if h.verdicts.Stop(r.Context()) {
		h.audit(r, "verdict stopped")
	}
	return api.None{}, nil
}

func (h *Handler) readyImageSet(r *http.Request, _ api.None) (api.ImageSetFile, error) {
	if err := h.isDaemon(); err != nil {
		return api.ImageSetFile{}, err
	}
	text, err := h.verdicts.ImageSet(r.Context())
	if err != nil {
		return api.ImageSetFile{}, &refusal{err, http.StatusNotFound}
	}
	return api.ImageSetFile{Text: text}, nil
}
