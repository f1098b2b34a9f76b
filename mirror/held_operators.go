package mirror

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// catalog adds an entry that asks for what a catalog has. A catalog that cannot be read is a note.
func (h *heldSet) catalog(o Origin, i mirroredImage, read ReadCatalog) error {
	at := o.Repository + ":" + o.Tag
	held := imageset.HeldOperator{Operator: imageset.Operator{Catalog: i.Origin, Platforms: i.Platforms, Full: i.Whole}}
	ref, err := held.Reference()
	if err != nil {
		h.note("not in here: catalog %s, whose origin %s is not a reference", at, i.Origin)
		return nil
	}
	content, err := read(Place{Repository: o.Repository, Reference: o.Tag})
	if failed := (*CatalogError)(nil); errors.As(err, &failed) {
		h.note("not in here: catalog %s of %s, which cannot be read: %s", at, i.Origin, failed)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read catalog %s: %w", at, err)
	}
	for _, image := range content.Images {
		h.ofBundles[image] = true
	}
	if len(content.Packages) == 0 {
		h.note("not in here: catalog %s of %s, which has no packages", at, i.Origin)
		return nil
	}
	repository, tag := held.Destination(ref)
	held.TargetCatalog = h.target(o, i, repository)
	if tag == "" {
		tag = imageset.Reference{Digest: i.Digest}.DestinationTag()
	}
	if o.Tag != tag {
		held.TargetTag = o.Tag
	}
	h.packages(&held, content)
	if ref.IsLayout() || ref.Transport == imageset.FilesTransport {
		held.Notes = append(held.Notes, "it was read from a directory of the host that mirrored it")
	}
	if i.Template != nil {
		held.Notes = append(held.Notes, "its CatalogSource was made of a targetCatalogSourceTemplate, whose path was not recorded")
	}
	h.Operators = append(h.Operators, held)
	return nil
}

// packages adds the packages of a catalog to its entry. A catalog that was mirrored as it is, is asked
// for so.
func (h *heldSet) packages(held *imageset.HeldOperator, content *catalog.Content) {
	if held.Full {
		held.Notes = append(held.Notes, fmt.Sprintf("held: the whole catalog, of %d packages", len(content.Packages)))
		return
	}
	if len(content.Unasked) > 0 {
		held.Notes = append(held.Notes, "held, and not asked for here: "+strings.Join(content.Unasked, "; "))
	}
	held.Packages = catalog.Ask(content.Packages)
	held.Versions = map[string]map[string][]string{}
	for _, p := range content.Packages {
		held.Versions[p.Name] = map[string][]string{}
		for _, c := range p.Channels {
			held.Versions[p.Name][c.Name] = c.Versions
		}
	}
}

// unoffered counts the images of bundles that no catalog brings which could be read.
func (h *heldSet) unoffered(images []mirroredImage) {
	for _, i := range images {
		if (i.Type == plan.OperatorBundle || i.Type == plan.OperatorRelated) && !h.ofBundles[i.Origin] {
			h.others[i.Type]++
		}
	}
}
