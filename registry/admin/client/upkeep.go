package client

import (
	"context"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// GCPlan returns what the last detached dry run of a collection would have removed.
func (c *Client) GCPlan(ctx context.Context) (api.GCPlan, error) {
	return call(ctx, c, api.GetGCPlan, api.None{})
}

// Damage lists what is known to be damaged.
func (c *Client) Damage(ctx context.Context) (api.Damage, error) {
	return call(ctx, c, api.GetDamage, api.None{})
}

// Usage returns what uses the space.
func (c *Client) Usage(ctx context.Context, q api.UsageRequest) (api.Usage, error) {
	return call(ctx, c, api.GetUsage, q)
}
