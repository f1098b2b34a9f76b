package client

import (
	"context"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Repositories lists a part of the repositories.
func (c *Client) Repositories(ctx context.Context, q api.Page) (api.Repositories, error) {
	return call(ctx, c, api.ListRepositories, q)
}

// Tags lists a part of the tags of a repository.
func (c *Client) Tags(ctx context.Context, q api.TagsRequest) (api.TagPage, error) {
	return call(ctx, c, api.ListTags, q)
}

// Image describes an image, by a tag or a digest.
func (c *Client) Image(ctx context.Context, at api.Place) (api.Image, error) {
	return call(ctx, c, api.GetImage, at)
}

// Signatures describes the signatures of an image, and verifies them.
func (c *Client) Signatures(ctx context.Context, at api.Place) (api.ImageSignatures, error) {
	return call(ctx, c, api.GetSignatures, at)
}

// PlanDelete tells what DeleteImage would do.
func (c *Client) PlanDelete(ctx context.Context, at api.Place) (api.Deletion, error) {
	return call(ctx, c, api.PlanDelete, api.ImageDelete(at))
}

// DeleteImage deletes a tag, or an image by its digest.
func (c *Client) DeleteImage(ctx context.Context, at api.Place) error {
	_, err := call(ctx, c, api.DeleteImage, api.ImageDelete(at))
	return err
}
