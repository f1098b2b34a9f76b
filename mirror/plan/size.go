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
	return newCounter(there).size(images)
}

// counter counts the blobs of groups of images. It has each blob once for all groups: a plan may have
// hundreds of thousands, most of them in three.
type counter struct {
	there  map[digest.Digest]bool
	ids    map[digest.Digest]int
	counts []int // by id: the last group that a blob was counted in
	group  int
}

func newCounter(there map[digest.Digest]bool) *counter {
	return &counter{there: there, ids: map[digest.Digest]int{}}
}

// first reports whether a blob has not been counted in the group.
func (c *counter) first(d digest.Digest) bool {
	id, known := c.ids[d]
	if !known {
		id = len(c.counts)
		c.ids[d], c.counts = id, append(c.counts, 0)
	}
	was := c.counts[id]
	c.counts[id] = c.group
	return was != c.group
}

// size returns the size of a group.
func (c *counter) size(images []*Image) Size {
	c.group++
	s := Size{Images: len(images)}
	count := func(manifests []Manifest) {
		for _, m := range manifests {
			for _, b := range m.Blobs {
				if !c.first(b.Digest) {
					continue
				}
				s.Bytes += b.Size
				if c.there[b.Digest] {
					s.Held += b.Size
				}
			}
		}
	}
	for _, i := range images {
		count(i.Manifests)
		for _, a := range i.Attachments {
			count(a.Manifests)
		}
	}
	s.Missing = s.Bytes - s.Held
	return s
}

// Measure sets the sizes of the plan, as a whole and in its parts.
func (p *Plan) Measure() {
	c := newCounter(p.There)
	all := c.size(p.Images)
	p.Blobs, p.Bytes, p.Held, p.Missing = len(c.ids), all.Bytes, all.Held, all.Missing
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
		of := CatalogSize{Catalog: name, Size: c.size(parts[part{name, ""}]), Packages: []PackageSize{}}
		for one, images := range parts {
			if one.catalog == name && one.pkg != "" {
				of.Packages = append(of.Packages, PackageSize{one.pkg, c.size(images)})
			}
		}
		slices.SortFunc(of.Packages, func(a, b PackageSize) int {
			return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Package, b.Package))
		})
		p.Catalogs = append(p.Catalogs, of)
	}
}
