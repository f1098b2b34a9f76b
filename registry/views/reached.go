package views

import (
	"context"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
)

// reachedAtMost is how many catalogs of other registries are remembered. Each is a file of some megabytes.
const reachedAtMost = 8

// reached are catalogs that were read at other registries.
type reached struct {
	mu  sync.Mutex
	all []api.ReachedCatalog // the last one first
}

func (r *reached) list() []api.ReachedCatalog {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]api.ReachedCatalog{}, r.all...)
}

// has reports whether one of them has a digest.
func (r *reached) has(d digest.Digest) bool {
	return slices.ContainsFunc(r.list(), func(c api.ReachedCatalog) bool { return c.Digest == d })
}

// of returns what is known of a catalog by its name.
func (r *reached) of(name string) api.ReachedCatalog {
	all := r.list()
	if i := slices.IndexFunc(all, func(c api.ReachedCatalog) bool { return c.Catalog == name }); i >= 0 {
		return all[i]
	}
	return api.ReachedCatalog{Catalog: name}
}

func (r *reached) put(one api.ReachedCatalog) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = slices.DeleteFunc(r.all, func(c api.ReachedCatalog) bool { return c.Catalog == one.Catalog })
	r.all = slices.Insert(r.all, 0, one)
	r.all = r.all[:min(len(r.all), reachedAtMost)]
}

// Reach reads what a catalog offers that a source of another registry has under a digest. One that was read
// before is not read again.
func (v *Views) Reach(ctx context.Context, name string, source catalog.Source, d digest.Digest) (api.ReachedCatalog, error) {
	one := api.ReachedCatalog{Catalog: name, Digest: d}
	of := v.listings.get(d)
	if of == nil {
		if err := v.store.CheckSpace(); err != nil {
			return one, err
		}
		dir := v.dir + ".reached" // a directory of its own: to read there takes longer than what is here may wait
		defer os.RemoveAll(dir)
		var err error
		if of, err = catalog.List(ctx, source, d.String(), dir); err != nil {
			return one, err
		}
	}
	one.Read, one.Packages = time.Now(), len(of.Packages)
	v.reached.put(one)
	v.keepListing(context.WithoutCancel(ctx), d, of)
	return one, nil
}

// NotReached keeps why a catalog could not be read at its registry.
func (v *Views) NotReached(name string, why api.Trouble) {
	one := v.reached.of(name)
	one.Error = &why
	v.reached.put(one)
}

// Reached lists the catalogs that were read at their registries last.
func (v *Views) Reached() []api.ReachedCatalog { return v.reached.list() }

// ReachedPackages lists a part of the packages of a catalog that was read at its registry.
func (v *Views) ReachedPackages(q api.ReachedPackagesRequest) (api.CatalogPackages, error) {
	page := api.CatalogPackages{Packages: []api.CatalogPackage{}, Digest: v.reached.of(q.Catalog).Digest}
	if page.Digest == "" {
		return page, &store.NotFoundError{Kind: "reading of catalog", Name: q.Catalog}
	}
	of := v.listings.get(page.Digest)
	if of == nil {
		return page, &store.NotFoundError{Kind: "reading of catalog", Name: q.Catalog}
	}
	for _, p := range choose(&page, of, q.Page) {
		page.Packages = append(page.Packages, packageOf(p))
	}
	return page, nil
}
