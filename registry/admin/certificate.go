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

// unshareCertificate works without a daemon too: none may start while the key of the rows is lost.
func (h *Handler) unshareCertificate(r *http.Request, _ api.None) (api.None, error) {
	rows := h.store.Shared()
	if rows == nil {
		return api.None{}, conflict("no certificate is shared: the database is a file of this host", "several daemons have theirs in PostgreSQL, see appliance docs several")
	}
	n, err := rows.Sealed.Clear(r.Context())
	if err != nil {
		return api.None{}, err
	}
	if n == 0 {
		return api.None{}, conflict("no certificate is shared: the database has none", "the next daemon that starts with sharedKey in config.yaml shares that of its files")
	}
	h.audit(r, "certificate unshared")
	return api.None{}, nil
}
