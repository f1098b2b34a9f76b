package views

import (
	"context"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/documents"
	"github.com/mirror-appliance/appliance/registry/stored"
)

// remembered is how many listings stay in memory: people leaf through one, or compare two.
const remembered = 2

// listings are what catalogs offer. To read a catalog takes seconds.
type listings struct {
	mu     sync.Mutex
	recent []listing // the last one first
	kept   catalog.Listings
}

type listing struct {
	digest digest.Digest
	*catalog.Listing
}

// get returns what is known of a catalog, nil if nothing is.
func (l *listings) get(d digest.Digest) *catalog.Listing {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := slices.IndexFunc(l.recent, func(one listing) bool { return one.digest == d })
	if n >= 0 {
		one := l.recent[n]
		l.recent = slices.Insert(slices.Delete(l.recent, n, n+1), 0, one)
		return one.Listing
	}
	of := l.kept.Of(d)
	if of != nil {
		l.remember(d, of)
	}
	return of
}

func (l *listings) remember(d digest.Digest, of *catalog.Listing) {
	l.recent = slices.Insert(l.recent, 0, listing{d, of})
	clear(l.recent[min(len(l.recent), remembered):])
	l.recent = l.recent[:min(len(l.recent), remembered)]
}

func (l *listings) put(d digest.Digest, of *catalog.Listing) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remember(d, of)
	return l.kept.Keep(d, of)
}

// unreadable is the error for a catalog that cannot be read.
type unreadable struct{ error }

func (e *unreadable) Unwrap() error { return e.error }

// listing returns what the catalog in an image offers, and the digest of the image.
func (v *Views) listing(ctx context.Context, at api.Place) (*catalog.Listing, digest.Digest, error) {
	source := stored.Repository{Store: v.store, Name: at.Repository}
	d, err := source.Resolve(ctx, at.Reference)
	if err != nil {
		return nil, "", err
	}
	if of := v.listings.get(d); of != nil {
		return of, d, nil
	}
	var of *catalog.Listing
	err = v.unpacked(func(dir string) (err error) {
		if of = v.listings.get(d); of != nil {
			return nil // another request has read it meanwhile
		}
		if of, err = catalog.List(ctx, source, d.String(), dir); err == nil {
			v.keepListing(context.WithoutCancel(ctx), d, of)
		} else if ctx.Err() == nil {
			err = &unreadable{err}
		}
		return err
	})
	return of, d, err
}

func (v *Views) keepListing(ctx context.Context, d digest.Digest, of *catalog.Listing) {
	err := v.listings.put(d, of)
	if err == nil {
		err = v.listings.kept.Prune(func(one digest.Digest) (bool, error) {
			if one == d || v.recalled != nil && v.recalled(one) {
				return true, nil
			}
			at, err := v.store.Manifests.Repositories(ctx, one)
			return len(at) > 0, err
		})
	}
	if err != nil {
		v.log.Warn("what was read of a catalog is not kept", "error", err)
	}
}

// Held lists the catalogs that the store has, and the views of them, by their names.
func (v *Views) Held(ctx context.Context) ([]api.HeldCatalog, error) {
	origins, err := documents.Origins(ctx, v.store.Tags)
	if err != nil {
		return nil, err
	}
	held, err := mirror.HeldCatalogs(origins)
	all := []api.HeldCatalog{}
	for _, c := range held {
		at := place(c.Image)
		one := api.HeldCatalog{Repository: at.Repository, Tag: at.Reference, Digest: c.Digest, Origin: c.Catalog}
		for _, view := range v.all {
			if repo, tag := view.Repository(); repo == at.Repository && tag == at.Reference {
				one.View = view.Name
			}
		}
		all = append(all, one)
	}
	return all, err
}
