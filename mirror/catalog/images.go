package catalog

import (
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strconv"

	"github.com/mirror-appliance/appliance/internal/regular"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/resources"
)

// collecting adds the images of one catalog.
type collecting struct {
	*entry
	plan   *plan.Plan
	images map[string]*plan.Image // by what they are pulled by
}

// add adds an image of a bundle. One that cannot be mirrored is a failure, which costs the bundle.
func (c *collecting) add(r operator.RelatedImage) {
	of := plan.Bundle{Catalog: c.ask.Catalog, Package: r.Package, Name: r.Bundle}
	image := &plan.Image{
		Type: plan.OperatorRelated, Origin: r.Image, Platforms: c.ask.Platforms, Bundles: []plan.Bundle{of},
		Reason: fmt.Sprintf("%s: bundle %s of operator %s", c.image.Reason, r.Bundle, r.Package),
	}
	if r.IsBundle {
		image.Type = plan.OperatorBundle
	}
	if r.Image == "" {
		image.Origin = fmt.Sprintf("%s bundle %s", c.ask.Catalog, r.Bundle)
	}
	if r.Fault != nil {
		c.plan.Failures = append(c.plan.Failures, plan.Failed(image, r.Fault))
		return
	}
	ref, err := imageset.ParseReference(r.Image)
	if err != nil {
		c.plan.Failures = append(c.plan.Failures, plan.Failed(image, err))
		return
	}
	if known := c.images[ref.Pull()]; known != nil {
		if !slices.Contains(known.Bundles, of) {
			known.Bundles = append(known.Bundles, of)
		}
		return
	}
	if ref.Tag != "" && ref.Digest != "" {
		c.plan.Warnings = append(c.plan.Warnings, r.Image+" has a tag and a digest: it is pulled by digest and pushed by tag")
	}
	image.Reference, image.Repository, image.Tag = ref, c.Repository(ref.Path), c.tagOf(ref)
	if c.Placed != nil {
		if as := c.Placed(ref.Pull()); as != nil {
			image.Reference, image.Repository, image.Tag = as.Reference, as.Repository, as.Tag
		}
	}
	c.images[ref.Pull()] = image
	c.plan.Images = append(c.plan.Images, image)
}

// tagOf returns the tag of a bundle's image at a destination.
func (e *entry) tagOf(ref imageset.Reference) string {
	switch {
	case !e.V1 || ref.Tag != "" || ref.Digest == "":
		return ref.DestinationTag()
	case e.local():
		return shortV1(ref.Digest)
	}
	return TagV1(ref.String())
}

// TagV1 returns the tag that version 1 gives an image of an operator that is named by digest.
func TagV1(name string) string {
	h := fnv.New32a()
	_, _ = io.WriteString(h, name) // a hash does not fail
	return strconv.FormatUint(uint64(h.Sum32()), 16)
}

// template reads the CatalogSource that the one for the catalog is made of. Without it there is the
// plain one, as in oc-mirror.
func (e *entry) template(p *plan.Plan) {
	name := e.ask.TargetCatalogSourceTemplate
	if name == "" {
		return
	}
	data, err := regular.ReadFile(name)
	var warning string
	if err == nil {
		warning, err = resources.CheckTemplate(data)
	}
	switch {
	case err != nil:
		p.Warnings = append(p.Warnings, fmt.Sprintf("%s: targetCatalogSourceTemplate %s is not used: %v", e.image.Reason, name, err))
		return
	case warning != "":
		p.Warnings = append(p.Warnings, fmt.Sprintf("%s: targetCatalogSourceTemplate %s: %s", e.image.Reason, name, warning))
	}
	e.image.Template = data
}

// texts are those of warnings, with the place of the entry.
func (e *entry) texts(warnings []operator.Warning) []string {
	var all []string
	for _, w := range warnings {
		all = append(all, fmt.Sprintf("%s: catalog %s: %s", e.image.Reason, e.ask.Catalog, w))
	}
	return all
}
