package views

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
)

// Reach reads what a catalog offers that a source of another registry has under a digest, and returns how many packages
// it has. One that was read before is not read again.
func (v *Views) Reach(ctx context.Context, source catalog.Source, d digest.Digest) (packages int, err error) {
	of, err := v.reached(ctx, d)
	if of == nil && err == nil {
		if err := v.store.CheckSpace(); err != nil {
			return 0, err
		}
		dir := v.dir + ".reached" // a directory of its own: to read there takes longer than what is here may wait
		defer os.RemoveAll(dir)
		of, err = catalog.List(ctx, source, d.String(), dir)
	}
	if err == nil {
		err = v.share(ctx, d, of)
	}
	if err != nil {
		return 0, err
	}
	v.keepListing(context.WithoutCancel(ctx), d, of)
	return len(of.Packages), nil
}

// ReachedPackages lists a part of the packages of a catalog that was read at its registry.
func (v *Views) ReachedPackages(ctx context.Context, q api.ReachedPackagesRequest, d digest.Digest) (api.CatalogPackages, error) {
	page := api.CatalogPackages{Packages: []api.CatalogPackage{}, Digest: d}
	of, err := v.reached(ctx, d)
	if of == nil && err == nil {
		err = &store.NotFoundError{Kind: "reading of catalog", Name: q.Catalog}
	}
	if err != nil {
		return page, err
	}
	for _, p := range choose(&page, of, q.Page) {
		page.Packages = append(page.Packages, packageOf(p))
	}
	return page, nil
}

// listingRow is the prefix of the names of rows that have what a catalog offers.
const listingRow = "catalog "

// sharing bounds the way of a listing to other daemons, and from them: a vendor's has some megabytes.
const sharing = 30 * time.Second

// share gives a listing to the other daemons of the store.
func (v *Views) share(ctx context.Context, d digest.Digest, of *catalog.Listing) error {
	if !v.store.Several() {
		return nil
	}
	var text bytes.Buffer
	encoded := base64.NewEncoder(base64.StdEncoding, &text)
	packed := gzip.NewWriter(encoded)
	if err := json.NewEncoder(packed).Encode(of); err != nil {
		return err
	}
	if err := packed.Close(); err != nil {
		return err
	}
	if err := encoded.Close(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sharing)
	defer cancel()
	return v.store.Shared().Work.Keep(ctx, listingRow+d.String(), "", text.String())
}

// reached returns what a catalog offers that this daemon or another one of the store has read, nil if none has.
func (v *Views) reached(ctx context.Context, d digest.Digest) (*catalog.Listing, error) {
	if of := v.listings.get(d); of != nil || !v.store.Several() {
		return of, nil
	}
	ctx, cancel := context.WithTimeout(ctx, sharing)
	defer cancel()
	row, err := v.store.Shared().Work.Get(ctx, listingRow+d.String(), 0)
	if err != nil || row.Result == "" {
		return nil, err
	}
	packed, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, strings.NewReader(row.Result)))
	if err != nil {
		return nil, err
	}
	of := new(catalog.Listing)
	if err := json.NewDecoder(packed).Decode(of); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, packed); err != nil { // which compares the checksum
		return nil, err
	}
	v.keepListing(context.WithoutCancel(ctx), d, of)
	return of, nil
}
