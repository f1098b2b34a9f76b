package admin

import (
	"context"
	"net/http"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Certificate is the certificate that is served.
type Certificate interface {
	Describe() (api.Certificate, error)
	Renew(ctx context.Context) error
}

func (h *Handler) getCertificate(*http.Request, api.None) (api.Certificate, error) {
	if err := h.isServing(); err != nil {
		return api.Certificate{}, err
	}
	return h.certificate.Describe()
}

func (h *Handler) renewCertificate(r *http.Request, _ api.None) (api.Certificate, error) {
	if err := h.isServing(); err != nil {
		return api.Certificate{}, err
	}
	if err := h.certificate.Renew(r.Context()); err != nil {
		return api.Certificate{}, err
	}
	h.audit(r, "certificate renewed")
	return h.certificate.Describe()
}
