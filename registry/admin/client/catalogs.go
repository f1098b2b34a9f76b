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

// ReadCatalog reads what an operator catalog offers at its registry.
func (c *Client) ReadCatalog(ctx context.Context, q api.CatalogRead, progress func(api.CatalogReading)) (api.ReachedCatalog, error) {
	q.Detach = false
	return run(ctx, c, api.ReadCatalog, q, progress)
}

// BeginReadCatalog begins a reading of a catalog, of the daemon's own.
func (c *Client) BeginReadCatalog(ctx context.Context, q api.CatalogRead) error {
	q.Detach = true
	return detach(ctx, c, api.ReadCatalog.Path, q)
}

// Reached returns the catalogs that were read at their registries, and the one that is being read.
func (c *Client) Reached(ctx context.Context) (api.ReachedCatalogs, error) {
	return call(ctx, c, api.ListReached, api.None{})
}

// ReachedPackages lists a part of the packages of a catalog that was read at its registry.
func (c *Client) ReachedPackages(ctx context.Context, q api.ReachedPackagesRequest) (api.CatalogPackages, error) {
	return callVia(ctx, c, c.patient, api.ListReachedPackages, q)
}

// StopReading ends the reading of a catalog.
func (c *Client) StopReading(ctx context.Context) error {
	_, err := call(ctx, c, api.StopReading, api.None{})
	return err
}
