package archive

import (
	"encoding/json"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
)

// CatalogV1 is an operator catalog in an archive of version 1.
type CatalogV1 struct {
	Name            string // as version 1 names it, in small letters: HOST/PATH:TAG or HOST/PATH@DIGEST
	Repository, Tag string // where version 1 publishes it
	// Root is the image of the catalog as it was, and Index returns what version 1 left of its
	// content, one file.
	Root  digest.Digest
	Index func() io.Reader
}

// catalogV1 are the entries of a catalog: its image, an OCI layout, and what is left of its
// content. Its include-config.gob, its opm and its cache are not needed.
type catalogV1 struct {
	CatalogV1
	layout, index span
}

// visitCatalog notes an entry of a catalog. The directory is made of its name and its tag or
// digest.
func (p *part) visitCatalog(name string, at span) error {
	const layout, index, blobs = "/layout/index.json", "/index/index.json", "/layout/blobs/sha256"
	dir, file := path.Split(name)
	if d := digest.NewDigestFromEncoded(digest.SHA256, file); strings.HasSuffix(dir, blobs+"/") && image.CheckDigest(d) == nil {
		p.blobs[d] = at
		return nil
	}
	dir, isLayout := strings.CutSuffix(name, layout)
	dir, isIndex := strings.CutSuffix(dir, index)
	if !isLayout && !isIndex {
		return nil
	}
	c := p.catalogs[dir]
	if c == nil {
		c = &catalogV1{}
		if !c.name(dir) {
			return at.damaged("it has a catalog of the name %s", image.Quote(dir))
		}
		p.catalogs[dir] = c
	}
	if isLayout {
		c.layout = at
		return nil
	}
	c.index = at
	c.Index = func() io.Reader { return io.NewSectionReader(at.reader, at.offset, at.size) }
	return nil
}

// name sets the name of a catalog, and its place at a registry: its path, and its tag or the
// beginning of its digest. It reports whether the names are allowed.
func (c *catalogV1) name(dir string) bool {
	const shown = 6 // digits of a digest
	name, id := path.Split(dir)
	name = strings.ToLower(strings.TrimSuffix(name, "/")) // a path on its host need not be in small letters
	c.Repository = name
	if host, below, ok := strings.Cut(name, "/"); ok && (strings.ContainsAny(host, ".:") || host == "localhost") {
		c.Repository = below
	}
	c.Name, c.Tag = name+":"+id, id
	if d := digest.Digest(id); image.CheckDigest(d) == nil {
		c.Name, c.Tag = name+"@"+id, d.Encoded()[:shown]
	}
	return image.ValidRepository(c.Repository) && image.CheckTag(c.Tag) == nil
}

// open finds the image of a catalog. The index of the layout is the one of the image itself, if
// that has several platforms; else it names the image.
func (c *catalogV1) open(p *part) error {
	at := c.layout
	switch {
	case at.chunkFile == nil:
		return c.index.damaged("catalog %s has no image", c.Name)
	case c.Index == nil:
		return at.damaged("catalog %s has no content", c.Name)
	}
	body, err := at.read(image.MaxManifestBytes)
	if err != nil {
		return err
	}
	var index ocispec.Index
	if err := json.Unmarshal(body, &index); err != nil {
		return at.damaged("catalog %s: %w", c.Name, err)
	}
	if len(index.Manifests) == 1 {
		c.Root = index.Manifests[0].Digest
		return nil
	}
	c.Root = digest.FromBytes(body)
	p.blobs[c.Root] = at
	return nil
}

// catalogsV1 returns the catalogs, in order.
func (p *part) catalogsV1() (all []CatalogV1) {
	for _, dir := range slices.Sorted(maps.Keys(p.catalogs)) {
		all = append(all, p.catalogs[dir].CatalogV1)
	}
	return all
}
