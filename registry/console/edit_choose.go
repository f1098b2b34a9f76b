package console

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

const (
	// channelsAsked bounds the channels of an image set of which the graph is read for its page.
	channelsAsked = 20
	// packagesFound bounds the packages that a search in the editor lists.
	packagesFound = 20
)

// foundPackages are packages of a catalog that is here, by parts of their names.
type foundPackages struct {
	Search   string
	Packages []api.CatalogPackage
	More     bool
	Path     string // of the catalog's page; "": it is not here
	Error    *problem
}

// choose adds what there is to choose from: versions of channels, from the graph data that is here, and
// what a search finds in a catalog that is here.
func (v *visit) choose(p *editPage, do, at string) error {
	platform := &p.Set.Mirror.Platform
	arch := string(append(slices.Clone(platform.Architectures), "amd64")[0])
	open := v.field("versions")
	if do == "versions" || do == "minor" {
		open = at
	}
	number, _, _ := strings.Cut(open, " ")
	for i := range platform.Channels[:min(len(platform.Channels), channelsAsked)] {
		c := &platform.Channels[i]
		u, err := v.c.api.Updates(v.r.Context(), api.UpdatesRequest{Channel: string(c.Name), Arch: arch})
		if err != nil {
			continue // a channel that cannot have this name is told of where the file is checked
		}
		c.Versions = slices.Clone(u.Listed)
		slices.SortFunc(c.Versions, func(a, b string) int { return compareVersions(b, a) })
		if number == strconv.Itoa(i) {
			if c.Chosen, err = v.chosenVersions(c, u, arch, open); err != nil {
				return err
			}
		}
	}
	i, err := strconv.Atoi(at)
	if do != "find" || err != nil || i < 0 || i >= len(p.Set.Mirror.Operators) {
		return nil
	}
	c := &p.Set.Mirror.Operators[i]
	c.Found, err = v.find(string(c.Catalog), v.field("find:"+at))
	return err
}

// find searches the packages of a catalog, if it is here.
func (v *visit) find(catalog, search string) (*foundPackages, error) {
	found := &foundPackages{Search: search}
	held, err := v.c.api.HeldCatalogs(v.r.Context())
	if err != nil {
		return nil, err
	}
	catalog = strings.TrimPrefix(catalog, "docker://")
	i := slices.IndexFunc(held, func(h api.HeldCatalog) bool { return h.View == "" && h.Origin == catalog })
	if i < 0 {
		return found, nil
	}
	found.Path = catalogAddress(held[i].Repository, held[i].Tag)
	page, err := v.c.api.Packages(v.r.Context(), api.PackagesRequest{
		Place: api.Place{Repository: held[i].Repository, Reference: held[i].Tag}, Page: api.Page{Search: search, Limit: packagesFound}})
	if err == nil && page.Error != "" {
		found.Error = &problem{page.Error, page.Hint}
	}
	found.Packages, found.More = page.Packages, page.More
	return found, err
}

// picked returns the change that adds a package: at is the number of the catalog and the package's name.
func picked(at string) []api.ImageSetEdit {
	i, name, _ := strings.Cut(at, " ")
	element := json.RawMessage(slices.Concat([]byte(`{"name":`), jsonOf(name), []byte("}")))
	return []api.ImageSetEdit{{At: "mirror.operators[" + i + "].packages", Add: element}}
}
