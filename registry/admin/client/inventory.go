package client

import (
	"context"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Inventory calls each with what the registry has, part by part.
func (c *Client) Inventory(ctx context.Context, each func(api.Inventory)) error {
	for q := (&api.InventoryRequest{}); q != nil; {
		part, err := call(ctx, c, api.ListInventory, *q)
		if err != nil {
			return err
		}
		each(part)
		q = part.Next
	}
	return nil
}
