package client

import (
	"context"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Catalog returns what an operator catalog of the registry has. The registry reads the whole catalog for
// it.
func (c *Client) Catalog(ctx context.Context, at api.Place) (api.CatalogContent, error) {
	return callVia(ctx, c, c.patient, api.GetCatalog, at)
}

// HeldCatalogs lists the operator catalogs of the registry, and the views of them.
func (c *Client) HeldCatalogs(ctx context.Context) ([]api.HeldCatalog, error) {
	return call(ctx, c, api.ListCatalogs, api.None{})
}

// Packages lists a part of the packages of an operator catalog. The registry reads a whole catalog for
// it, once.
func (c *Client) Packages(ctx context.Context, q api.PackagesRequest) (api.CatalogPackages, error) {
	return callVia(ctx, c, c.patient, api.ListPackages, q)
}

// Package returns a package of an operator catalog, likewise.
func (c *Client) Package(ctx context.Context, q api.PackageRequest) (api.CatalogBundles, error) {
	return callVia(ctx, c, c.patient, api.GetPackage, q)
}
