package client

import (
	"context"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Certificate describes the certificate that the registry serves.
func (c *Client) Certificate(ctx context.Context) (api.Certificate, error) {
	return call(ctx, c, api.GetCertificate, api.None{})
}

// RenewCertificate has the registry replace its certificate by a new one of its CA.
func (c *Client) RenewCertificate(ctx context.Context) (api.Certificate, error) {
	return call(ctx, c, api.RenewCertificate, api.None{})
}
