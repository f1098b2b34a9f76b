package client

import (
	"context"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Audit lists a part of what users did and were refused.
func (c *Client) Audit(ctx context.Context, q api.AuditRequest) (api.AuditPage, error) {
	return call(ctx, c, api.ListAudit, q)
}
