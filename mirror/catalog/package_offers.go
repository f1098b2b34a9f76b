package catalog

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/operator"
)

// PackageOffers are what catalogs offer of packages. To read a catalog takes seconds, so that what was read is
// kept in a directory, in a file for each digest of a catalog, with the packages that were asked for.
type PackageOffers struct {
	Dir     string // of the files
	Work    string // catalogs are unpacked below it; the caller removes it
	Version string // of the program, whose files of another version are not relied on
}

// Of returns a reader of the catalog in the image that ref names and that has a digest. It reads nothing but
// what is kept.
func (p PackageOffers) Of(source Source, ref string, d digest.Digest) *OfferReader {
	r := &OfferReader{PackageOffers: p, source: source, ref: ref, file: filepath.Join(p.Dir, d.Encoded())}
	if r.known = readKept[map[string]*operator.Offer](r.file, p.Version); r.known == nil {
		r.known = map[string]*operator.Offer{}
	}
	return r
}

// Prune removes what is kept of catalogs that are not used any more.
func (p PackageOffers) Prune(used func(d digest.Digest) (bool, error)) error {
	return pruneKept(p.Dir, used)
}

// OfferReader reads what one catalog offers of packages.
type OfferReader struct {
	PackageOffers
	source    Source
	ref, file string
	known     map[string]*operator.Offer // nil for a package that the catalog does not have
	index     *operator.Index            // nil: the catalog was not read
	files     fs.FS
	changed   bool
}

// Knows reports whether Package reads no catalog.
func (r *OfferReader) Knows(name string) bool {
	_, ok := r.known[name]
	return ok
}

// Package returns what the catalog offers of a package, nil for nothing.
func (r *OfferReader) Package(ctx context.Context, name string) (*operator.Offer, error) {
	if o, ok := r.known[name]; ok {
		return o, nil
	}
	var err error
	if r.index == nil {
		if r.index, r.files, err = Load(ctx, r.source, r.ref, r.Work); err != nil {
			r.index = nil
			return nil, err
		}
	}
	o, err := r.index.Offer(ctx, r.files, name)
	if err != nil {
		return nil, err
	}
	r.known[name], r.changed = o, true
	return o, nil
}

// Keep writes what was read for the next reader of the same catalog.
func (r *OfferReader) Keep() error {
	if !r.changed {
		return nil
	}
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return err
	}
	return writeKept(r.file, r.Version, r.known)
}
