package mirror

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/resources"
)

// nameCatalogs gives names to the resources of the catalogs among the images of a plan that have none
// yet, and warns of those that are not oc-mirror's. Where the destination serves cluster resources its
// names count, since other workspaces mirror into it too.
func (e *engine) nameCatalogs(ctx context.Context, p *plan.Plan, images []*plan.Image) {
	catalogs := slices.DeleteFunc(slices.Clone(images), func(i *plan.Image) bool { return i.Type != plan.OperatorCatalog })
	if len(catalogs) == 0 || e.o.ToArchive {
		return
	}
	before, all := e.mirroredBefore(), e.mirroredBefore()
	before.name(e.o.Registry, e.resourceOptions())
	e.addTo(all, catalogs)
	named, clashes := resources.Named(withServed(all.resources(e.o.Registry, "").Catalogs, e.servedNames(ctx)), e.resourceOptions())
	e.sourceNames = map[string]string{}
	for _, c := range named {
		e.sourceNames[c.Image] = c.Names.Source
		source, clusterCatalog := c.Names.Resources(e.resourceOptions())
		var warning string
		if reason := clashes[source]; reason != "" {
			warning = fmt.Sprintf("catalog %s gets the CatalogSource %s and the ClusterCatalog %s: %s", c.Image, source, clusterCatalog, reason)
		}
		if had, _ := before.names(c.Image).Resources(e.resourceOptions()); had != "" && had != source {
			warning = fmt.Sprintf("catalog %s has the CatalogSource %s at the registry, and had %s in this workspace: change Subscriptions with source: %[3]s",
				c.Image, source, had)
		}
		if warning != "" && !slices.Contains(p.Warnings, warning) {
			p.Warnings = append(p.Warnings, warning)
		}
	}
}

// withServed returns catalogs with the names that their registry serves, by their images, and those
// that it alone knows.
func withServed(catalogs []resources.Catalog, served map[string]string) []resources.Catalog {
	for n := range catalogs {
		names := &catalogs[n].Names
		for image, name := range served {
			if names.Source == name && image != catalogs[n].Image {
				names.Source = ""
			}
		}
		names.Source = cmp.Or(served[catalogs[n].Image], names.Source)
	}
	for image, name := range served {
		catalogs = append(catalogs, resources.Catalog{Image: image, Names: resources.Names{Source: name}})
	}
	return catalogs
}

// servedNames returns the names of the CatalogSources that the destination serves, by the images of
// their catalogs.
func (e *engine) servedNames(ctx context.Context) map[string]string {
	if e.o.Served == nil {
		return nil
	}
	files, err := e.o.Served(ctx)
	var names map[string]string
	if err == nil {
		names, err = resources.SourceNames(files)
	}
	if err != nil {
		e.o.Log.Warn("the names of CatalogSources are the workspace's, since the destination's cannot be read", "error", err)
		return nil
	}
	served := map[string]string{}
	for image, name := range names { // the registry may call itself by another name
		_, path, _ := strings.Cut(image, "/")
		served[e.o.Registry+"/"+path] = name
	}
	return served
}
