package client

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Want keeps what an image set wants of the registry, by a key. It replaces the last of that key.
func (r *Run) Want(ctx context.Context, key string, wants json.RawMessage) error {
	_, err := call(ctx, r.client, api.SetWants, api.Wants{Key: key, Wants: wants})
	return err
}

// Needs returns those of some images that something else than a workspace needs. The registry may read
// whole catalogs for it.
func (c *Client) Needs(ctx context.Context, workspace string, images []api.Place) ([]api.Need, error) {
	var all []api.Need
	for some := range slices.Chunk(images, api.AtOnce) {
		needs, err := callVia(ctx, c, c.patient, api.ListNeeds, api.NeedsRequest{Workspace: workspace, Images: some})
		if err != nil {
			return nil, err
		}
		all = append(all, needs...)
	}
	return all, nil
}
