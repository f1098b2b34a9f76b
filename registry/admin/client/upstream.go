package client

import (
	"context"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// SetOffline cuts the registry's way to other hosts, or restores it.
func (c *Client) SetOffline(ctx context.Context, cut bool) (api.Offline, error) {
	return call(ctx, c, api.SetOffline, api.Offline{Offline: cut})
}

// Offline returns whether the registry asks other hosts.
func (c *Client) Offline(ctx context.Context) (api.Offline, error) {
	return call(ctx, c, api.GetOffline, api.None{})
}

// Reload has the registry read the upstreams of its configuration again.
func (c *Client) Reload(ctx context.Context) error {
	_, err := call(ctx, c, api.Reload, api.None{})
	return err
}

// Upstreams lists the registries that are pulled through.
func (c *Client) Upstreams(ctx context.Context) ([]api.Upstream, error) {
	return call(ctx, c, api.ListUpstreams, api.None{})
}

// TestUpstreams has the registry ask its upstreams.
func (c *Client) TestUpstreams(ctx context.Context, q api.UpstreamTest) ([]api.UpstreamTested, error) {
	return call(ctx, c, api.TestUpstreams, q)
}

// Unpin ends the protection of images that were pinned.
func (c *Client) Unpin(ctx context.Context, q api.PinRequest) (api.PinResult, error) {
	return call(ctx, c, api.Unpin, q)
}

// Pins lists the images that are pinned.
func (c *Client) Pins(ctx context.Context) ([]api.PinnedImage, error) {
	return call(ctx, c, api.ListPins, api.None{})
}

// Misses lists what clients asked for and did not get.
func (c *Client) Misses(ctx context.Context) ([]api.Miss, error) {
	return call(ctx, c, api.ListMisses, api.None{})
}

// MissedImageSet returns an image set that mirrors what clients did not get.
func (c *Client) MissedImageSet(ctx context.Context) (api.ImageSetFile, error) {
	return call(ctx, c, api.MissedImageSet, api.None{})
}

// ClearMisses forgets what clients did not get.
func (c *Client) ClearMisses(ctx context.Context) error {
	_, err := call(ctx, c, api.ClearMisses, api.None{})
	return err
}
