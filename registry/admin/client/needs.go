package client

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Want keeps what an image set wants of the registry, by a key. It replaces the last of that key.
func (r *Run) Want(ctx context.Context, key string, wants json.RawMessage) error {
	return r.client.Want(ctx, key, wants)
}

// Want is that of a run, without one; null removes what the key has.
func (c *Client) Want(ctx context.Context, key string, wants json.RawMessage) error {
	_, err := call(ctx, c, api.SetWants, api.Wants{Key: key, Wants: wants})
	return err
}

// Wants lists what image sets want of the registry, by key.
func (c *Client) Wants(ctx context.Context) (map[string]json.RawMessage, error) {
	listed, err := call(ctx, c, api.ListWants, api.None{})
	all := map[string]json.RawMessage{}
	for _, w := range listed {
		all[w.Key] = w.Wants
	}
	return all, err
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
