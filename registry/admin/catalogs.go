package admin

import (
	"context"
	"net/http"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/jobs"
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

// Reaching knows the catalogs that were read at their registries.
type Reaching interface {
	Reached(ctx context.Context) api.ReachedCatalogs
	// Packages lists a part of the packages of one.
	Packages(ctx context.Context, q api.ReachedPackagesRequest) (api.CatalogPackages, error)
	// Stop ends the reading of one, and reports whether there is any.
	Stop(ctx context.Context) (running bool)
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

// handleReached registers the calls of catalogs that are read at their registries.
func (h *Handler) handleReached(reach *jobs.Runner[api.CatalogRead, api.CatalogReading, api.ReachedCatalog]) {
	routeJob(h, api.ReadCatalog, func(w http.ResponseWriter, r *http.Request) {
		var q api.CatalogRead
		err := h.isDaemon()
		if err == nil {
			err = decode(r, api.MaxJSON, &q)
		}
		if err != nil {
			h.refuse(w, r, err)
			return
		}
		runJob(h, w, r, q, reach, func() { h.audit(r, "reading of a catalog began", "catalog", q.Catalog) })
	})
	handle(h, api.ListReached, func(r *http.Request, _ api.None) (api.ReachedCatalogs, error) {
		if err := h.isDaemon(); err != nil {
			return api.ReachedCatalogs{}, err
		}
		return h.reaching.Reached(r.Context()), nil
	})
	handle(h, api.ListReachedPackages, func(r *http.Request, q api.ReachedPackagesRequest) (api.CatalogPackages, error) {
		return h.reaching.Packages(r.Context(), q)
	})
	handle(h, api.StopReading, func(r *http.Request, _ api.None) (api.None, error) {
		err := h.isDaemon()
		if err == nil && h.reaching.Stop(r.Context()) {
			h.audit(r, "reading of a catalog stopped")
		}
		return api.None{}, err
	})
}
