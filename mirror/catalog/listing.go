package catalog

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
)

// Listing is what a catalog offers, for people that look for an operator in it.
type Listing struct {
	Packages []ListedPackage `json:"packages"` // by name
}

// ListedPackage is a package with all that the catalog has of it.
type ListedPackage struct {
	Package
	Offer *operator.Offer `json:"offer"`
}

// List returns what the catalog in an image offers. It works in dir.
func List(ctx context.Context, source Source, ref, dir string) (*Listing, error) {
	unpacked, err := unpack(ctx, source, ref, dir)
	if err != nil {
		return nil, err
	}
	l := &Listing{}
	if len(unpacked.index.Packages()) == 0 {
		return l, nil
	}
	all, err := Named(ctx, unpacked.index, unpacked.content)
	for _, p := range all {
		one := ListedPackage{Package: p}
		if one.Offer, err = unpacked.index.Offer(ctx, unpacked.content, p.Name); err != nil {
			break
		}
		l.Packages = append(l.Packages, one)
	}
	return l, err
}

// Named returns the packages of a catalog, with their display names.
func Named(ctx context.Context, index *operator.Index, files fs.FS) ([]Package, error) {
	s, err := index.Select(imageset.Operator{Full: true}, nil)
	if err != nil {
		return nil, err
	}
	names, err := s.DisplayNames(ctx, files)
	if err != nil {
		return nil, err
	}
	all := Packages(s)
	for n := range all {
		all[n].DisplayName = names[all[n].Name]
	}
	return all, nil
}

// listingVersion changes with what a kept Listing has.
const listingVersion = "1"

// Listings keep what catalogs offer in a directory, in a file for each digest of a catalog.
type Listings struct{ Dir string }

// Of returns what is kept of a catalog, nil if nothing is.
func (l Listings) Of(d digest.Digest) *Listing {
	return readKept[*Listing](filepath.Join(l.Dir, d.Encoded()), listingVersion)
}

// Keep keeps what a catalog offers.
func (l Listings) Keep(d digest.Digest, of *Listing) error {
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return err
	}
	return writeKept(filepath.Join(l.Dir, d.Encoded()), listingVersion, of)
}

// Prune removes what is kept of catalogs that are not used any more.
func (l Listings) Prune(used func(d digest.Digest) (bool, error)) error {
	return pruneKept(l.Dir, used)
}
