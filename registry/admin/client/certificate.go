package client

import (
	"context"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Certificate describes the certificate that the registry serves.
func (c *Client) Certificate(ctx context.Context) (api.Certificate, error) {
	return call(ctx, c, api.GetCertificate, api.None{})
}

// UnshareCertificate deletes the certificates that daemons share from their database.
func (c *Client) UnshareCertificate(ctx context.Context) error {
	_, err := call(ctx, c, api.UnshareCertificate, api.None{})
	return err
}

// RenewCertificate has the registry replace its certificate by a new one of its CA.
func (c *Client) RenewCertificate(ctx context.Context) (api.Certificate, error) {
	return call(ctx, c, api.RenewCertificate, api.None{})
}
