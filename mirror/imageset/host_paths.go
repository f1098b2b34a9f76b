package imageset

import "strings"

// HostPaths lists what the configuration reads from the host: catalogs, images, charts and the templates of
// CatalogSources, as they are written.
func (c *Config) HostPaths() (all []string) {
	add := func(name string) {
		if strings.HasPrefix(name, FilesTransport+"://") || strings.HasPrefix(name, "oci://") {
			all = append(all, name)
		}
	}
	for _, o := range c.Mirror.Operators {
		add(o.Catalog)
		if o.TargetCatalogSourceTemplate != "" {
			all = append(all, o.TargetCatalogSourceTemplate)
		}
	}
	for _, i := range c.Mirror.AdditionalImages {
		add(i.Name)
	}
	for _, chart := range c.Mirror.Helm.Local {
		all = append(all, chart.Path)
	}
	return all
}
