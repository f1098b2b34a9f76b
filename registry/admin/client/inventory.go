package client

import (
	"context"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Inventory calls each with what the registry has, part by part.
func (c *Client) Inventory(ctx context.Context, each func(api.Inventory)) error {
	return c.inventory(ctx, api.InventoryRequest{}, each)
}

// Images calls each with the images of all repositories, in their order, part by part.
func (c *Client) Images(ctx context.Context, each func([]api.InventoryImage)) error {
	return c.inventory(ctx, api.InventoryRequest{Image: &api.InventoryImage{}}, func(part api.Inventory) { each(part.Images) })
}

func (c *Client) inventory(ctx context.Context, from api.InventoryRequest, each func(api.Inventory)) error {
	for q := &from; q != nil; {
		part, err := call(ctx, c, api.ListInventory, *q)
		if err != nil {
			return err
		}
		each(part)
		q = part.Next
	}
	return nil
}
