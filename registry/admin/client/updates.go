package client

import (
	"context"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Updates returns what the update service offers, and the graph of a channel if one is named.
func (c *Client) Updates(ctx context.Context, q api.UpdatesRequest) (api.Updates, error) {
	return call(ctx, c, api.GetUpdates, q)
}
