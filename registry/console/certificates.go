package console

import (
	"net/url"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// certificatesPage is what is served, and how clients come to trust it.
type certificatesPage struct {
	CSRF    string
	Address string // host:port
	Host    string
	Served  api.Certificate
	Source  string // of the certificate: a text certificates.source.SOURCE
}

func (v *visit) certificates() error {
	served, err := v.c.api.Certificate(v.r.Context())
	if err != nil {
		return err
	}
	at := url.URL{Host: v.c.Address}
	return v.show("certificates", "certificates", "certificates.title", certificatesPage{CSRF: v.session.CSRF, Address: v.c.Address,
		Host: at.Hostname(), Served: served, Source: sourceOf(served)})
}

// sourceOf returns where a certificate comes from: acme, acme-waits for one that serves until the ACME
// server has issued one, ca for the appliance's CA, rotation while there are two of them, or own.
func sourceOf(c api.Certificate) string {
	switch {
	case c.Issued:
		return "acme"
	case c.ACME != "":
		return "acme-waits"
	case !c.Renews:
		return "own"
	case len(c.CA) > 1:
		return "rotation"
	}
	return "ca"
}

func (v *visit) renewCertificate() error {
	renewed, err := v.c.api.RenewCertificate(v.r.Context())
	if err != nil {
		return err
	}
	return v.done("/certificates", v.c.views.text("certificates.renewed", renewed.NotAfter.UTC().Format("2006-01-02")))
}
