package plan

import (
	"cmp"
	"slices"

	"github.com/opencontainers/go-digest"
)

// Size is how large some images are. A blob that several of them have counts once, so that the sizes
// of parts may be more than that of the whole.
type Size struct {
	Images  int   `json:"images"`
	Bytes   int64 `json:"bytes"`
	Held    int64 `json:"held"`    // of those that the destination has
	Missing int64 `json:"missing"` // of the others, which are copied
}

// CatalogSize is the size of what a plan has of an operator catalog: its image, and those of bundles.
type CatalogSize struct {
	Catalog string `json:"catalog"` // as the image set names it
	Size
	Packages []PackageSize `json:"packages"` // the largest first
}

// PackageSize is the size of the images of one operator.
type PackageSize struct {
	Package string `json:"package"`
	Size
}

// SizeOf returns the size of some images, at a destination that has some blobs.
func SizeOf(images []*Image, there map[digest.Digest]bool) Size {
	s := Size{Images: len(images)}
	seen := map[digest.Digest]bool{}
	for _, i := range images {
		for _, m := range i.All() {
			for _, b := range m.Blobs {
				if seen[b.Digest] {
					continue
				}
				seen[b.Digest] = true
				s.Bytes += b.Size
				if there[b.Digest] {
					s.Held += b.Size
				}
			}
		}
	}
	s.Missing = s.Bytes - s.Held
	return s
}

// Measure sets the sizes of the plan, as a whole and in its parts.
func (p *Plan) Measure() {
	p.Blobs = 0
	for range p.Distinct() {
		p.Blobs++
	}
	all := SizeOf(p.Images, p.There)
	p.Bytes, p.Held, p.Missing = all.Bytes, all.Held, all.Missing
	type part struct{ catalog, pkg string }
	var catalogs []string
	parts := map[part][]*Image{}
	add := func(of part, i *Image) {
		if of.pkg == "" && parts[of] == nil {
			catalogs = append(catalogs, of.catalog)
		}
		if last := len(parts[of]) - 1; last < 0 || parts[of][last] != i {
			parts[of] = append(parts[of], i)
		}
	}
	for _, i := range p.Images {
		if i.Type == OperatorCatalog {
			add(part{i.Origin, ""}, i)
		}
		for _, b := range i.Bundles {
			add(part{b.Catalog, ""}, i)
			add(part{b.Catalog, b.Package}, i)
		}
	}
	p.Catalogs = nil
	for _, name := range catalogs {
		of := CatalogSize{Catalog: name, Size: SizeOf(parts[part{name, ""}], p.There), Packages: []PackageSize{}}
		for one, images := range parts {
			if one.catalog == name && one.pkg != "" {
				of.Packages = append(of.Packages, PackageSize{one.pkg, SizeOf(images, p.There)})
			}
		}
		slices.SortFunc(of.Packages, func(a, b PackageSize) int {
			return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Package, b.Package))
		})
		p.Catalogs = append(p.Catalogs, of)
	}
}
