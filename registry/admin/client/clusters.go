package client

import (
	"context"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// AttachCluster protects what a cluster runs and may roll back to.
func (c *Client) AttachCluster(ctx context.Context, q api.AttachRequest) (api.AttachedCluster, error) {
	return callVia(ctx, c, c.patient, api.AttachCluster, q)
}

// Clusters lists the attached clusters.
func (c *Client) Clusters(ctx context.Context) ([]api.AttachedCluster, error) {
	return callVia(ctx, c, c.patient, api.ListClusters, api.None{})
}

// DetachCluster ends the protection of what a cluster needs. It is named by its id or its name.
func (c *Client) DetachCluster(ctx context.Context, name string) error {
	_, err := call(ctx, c, api.DetachCluster, api.None{}, name)
	return err
}
