package console

import (
	"encoding/json"
	"net/http"
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

// foundPackages are packages of a catalog, by parts of their names: of all that it has at its registry if it was
// read there, else of what is here.
type foundPackages struct {
	Catalog, Search string
	At              int // the number of the catalog in the image set
	Packages        []api.CatalogPackage
	More            bool
	Path            string // of the catalog's page; "": it is not here
	Error           *problem

	Read    api.ReachedCatalog  // at its registry; without a digest: it was not
	Reading *api.CatalogReading // there, now
	Offline bool                // the registry asks no other
	Live    bool                // what is shown changes
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
	if do != "find" && do != "read" && do != "halt" || err != nil || i < 0 || i >= len(p.Set.Mirror.Operators) {
		return nil
	}
	c := &p.Set.Mirror.Operators[i]
	catalog := catalogName(string(c.Catalog))
	refused, err := v.readOrHalt(do, api.CatalogRead{Catalog: catalog, ImageSet: p.File})
	if err != nil {
		return err
	}
	if c.Found, err = v.find(catalog, v.field("find:"+at)); err != nil {
		return err
	}
	c.Found.At = i
	c.Found.Live = c.Found.Reading != nil || do == "read" && refused == nil && !c.Found.Offline
	if refused != nil && c.Found.Reading == nil { // else it is being read already
		c.Found.Error = refused
	}
	return nil
}

// readOrHalt begins to read a catalog at its registry, unless this registry asks no other, or ends that.
func (v *visit) readOrHalt(do string, q api.CatalogRead) (refused *problem, err error) {
	switch do {
	case "read":
		link, err := v.c.api.Offline(v.r.Context())
		if err != nil || link.Offline {
			return nil, err
		}
		err = v.c.api.BeginReadCatalog(v.r.Context(), q)
		if err != nil {
			told := problemOf(err)
			return &told, nil
		}
	case "halt":
		return nil, v.c.api.StopReading(v.r.Context())
	}
	return nil, nil
}

// catalogName returns the name of a catalog without what does not tell it from others.
func catalogName(name string) string { return strings.TrimPrefix(name, "docker://") }

// readLive shows the reading of a catalog, and then what a search finds in it.
func (v *visit) readLive() error {
	at, _ := strconv.Atoi(v.r.FormValue("at"))
	return v.live("sync-edit", "edit-found", func() (any, error) {
		found, err := v.find(catalogName(v.r.FormValue("catalog")), v.r.FormValue("search"))
		if err == nil {
			found.At = at
		}
		return found, err
	})
}

// find searches the packages of a catalog.
func (v *visit) find(catalog, search string) (*foundPackages, error) {
	found := &foundPackages{Catalog: catalog, Search: search}
	reached, err := v.c.api.Reached(v.r.Context())
	if err != nil {
		return nil, err
	}
	if reached.Running != nil && reached.Running.Catalog == catalog {
		found.Reading = reached.Running
	}
	if i := slices.IndexFunc(reached.Read, func(r api.ReachedCatalog) bool { return r.Catalog == catalog }); i >= 0 {
		found.Read = reached.Read[i]
	}
	link, err := v.c.api.Offline(v.r.Context())
	if err != nil {
		return nil, err
	}
	found.Offline = link.Offline
	held, err := v.c.api.HeldCatalogs(v.r.Context())
	if err != nil {
		return nil, err
	}
	var at api.Place
	if i := slices.IndexFunc(held, func(h api.HeldCatalog) bool { return h.View == "" && h.Origin == catalog }); i >= 0 {
		at = api.Place{Repository: held[i].Repository, Reference: held[i].Tag}
		found.Path = catalogAddress(at.Repository, at.Reference)
	}
	return found, v.search(found, at)
}

// search adds the packages that a search finds.
func (v *visit) search(found *foundPackages, at api.Place) (err error) {
	var page api.CatalogPackages
	part := api.Page{Search: found.Search, Limit: packagesFound}
	switch {
	case found.Read.Digest != "":
		page, err = v.c.api.ReachedPackages(v.r.Context(), api.ReachedPackagesRequest{Catalog: found.Catalog, Page: part})
		if statusOf(err) == http.StatusNotFound { // the disk has lost it
			found.Read.Digest, err = "", nil
		}
	case found.Path != "":
		page, err = v.c.api.Packages(v.r.Context(), api.PackagesRequest{Place: at, Page: part})
	}
	if err == nil && page.Error != "" {
		found.Error = &problem{page.Error, page.Hint}
	}
	found.Packages, found.More = page.Packages, page.More
	return err
}

// picked returns the change that adds a package: at is the number of the catalog and the package's name.
func picked(at string) []api.ImageSetEdit {
	i, name, _ := strings.Cut(at, " ")
	element := json.RawMessage(slices.Concat([]byte(`{"name":`), jsonOf(name), []byte("}")))
	return []api.ImageSetEdit{{At: "mirror.operators[" + i + "].packages", Add: element}}
}
