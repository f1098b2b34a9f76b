package admin

import (
	"context"
	"net/http"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
)

// Catalogs knows the catalogs of a store, and what they need. *views.Views is it.
type Catalogs interface {
	// Needs returns those of some images that something else than a workspace needs.
	Needs(ctx context.Context, q api.NeedsRequest) ([]api.Need, error)
	// Content returns what a catalog has.
	Content(ctx context.Context, q api.Place) (api.CatalogContent, error)
	Held(ctx context.Context) ([]api.HeldCatalog, error)
	Packages(ctx context.Context, q api.PackagesRequest) (api.CatalogPackages, error)
	Package(ctx context.Context, q api.PackageRequest) (api.CatalogBundles, error)
	// CheckRollback returns an error for tags of catalogs that would offer, once they moved, bundles
	// whose images are gone.
	CheckRollback(ctx context.Context, moved []store.TagChange) error
}

func (h *Handler) getCatalog(r *http.Request, q api.Place) (api.CatalogContent, error) {
	return h.catalogs.Content(r.Context(), q)
}

func (h *Handler) listCatalogs(r *http.Request, _ api.None) ([]api.HeldCatalog, error) {
	return h.catalogs.Held(r.Context())
}

func (h *Handler) listPackages(r *http.Request, q api.PackagesRequest) (api.CatalogPackages, error) {
	return h.catalogs.Packages(r.Context(), q)
}

func (h *Handler) getPackage(r *http.Request, q api.PackageRequest) (api.CatalogBundles, error) {
	return h.catalogs.Package(r.Context(), q)
}
