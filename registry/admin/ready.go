package admin

import (
	"net/http"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Verdicts are those that the daemon makes without a caller.
type Verdicts interface {
	State() api.ReadyState
	// Stop ends the one that is being made, if there is any.
	Stop() (running bool)
	// ImageSet returns an image set that brings what the last one lacks.
	ImageSet() (string, error)
}

func (h *Handler) getReady(*http.Request, api.None) (api.ReadyState, error) {
	if err := h.isDaemon(); err != nil {
		return api.ReadyState{}, err
	}
	return h.verdicts.State(), nil
}

// stopReady ends a verdict. That there is none is no error: it may have ended just now.
func (h *Handler) stopReady(r *http.Request, _ api.None) (api.None, error) {
	if err := h.isDaemon(); err != nil {
		return api.None{}, err
	}
	if h.verdicts.Stop() {
		h.audit(r, "verdict stopped")
	}
	return api.None{}, nil
}

func (h *Handler) readyImageSet(*http.Request, api.None) (api.ImageSetFile, error) {
	if err := h.isDaemon(); err != nil {
		return api.ImageSetFile{}, err
	}
	text, err := h.verdicts.ImageSet()
	if err != nil {
		return api.ImageSetFile{}, &refusal{err, http.StatusNotFound}
	}
	return api.ImageSetFile{Text: text}, nil
}
