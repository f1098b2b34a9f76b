package console

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

const catalogsPath = "/catalogs"

// catalogAddress returns the path of a catalog's page, or of one of its operators.
func catalogAddress(repo, ref string, pairs ...string) string {
	between := ":"
	if strings.Contains(ref, ":") {
		between = "@" // a digest
	}
	return address(catalogsPath+"/"+(&url.URL{Path: repo + between + ref}).EscapedPath(), pairs...)
}

// catalogOf returns the catalog that a page is about, "" for none.
func catalogOf(name string) api.Place {
	repo, ref, found := strings.Cut(name, "@")
	if !found {
		n := strings.LastIndexByte(name, ':')
		if n < 0 {
			return api.Place{Repository: name}
		}
		repo, ref = name[:n], name[n+1:]
	}
	return api.Place{Repository: repo, Reference: ref}
}

// catalogsPage lists the catalogs, and the views of the configuration.
type catalogsPage struct {
	Address  string
	Catalogs []api.HeldCatalog
	Views    []catalogView
}

// catalogView is a view, with the pages of what it shows and of its original, "" where there is none.
type catalogView struct {
	api.CatalogView
	Path, OriginalPath string
	Why                string // it was changed
}

func (v *visit) catalogs() error {
	held, err := v.c.api.HeldCatalogs(v.r.Context())
	if err != nil {
		return err
	}
	status, err := v.c.api.Status(v.r.Context())
	if err != nil {
		return err
	}
	p, shown := catalogsPage{Address: v.c.Address}, map[string]string{}
	for _, c := range held {
		if c.View == "" {
			p.Catalogs = append(p.Catalogs, c)
			continue
		}
		shown[c.View] = catalogAddress(c.Repository, c.Tag)
	}
	for _, one := range status.Catalogs {
		view := catalogView{CatalogView: one, Path: shown[one.Name], Why: strings.TrimPrefix(one.Reason, api.ViewRun(one.Name, ""))}
		if of := catalogOf(one.Original); one.OriginalDigest != "" && !one.OriginalGone {
			view.OriginalPath = catalogAddress(of.Repository, of.Reference)
		}
		p.Views = append(p.Views, view)
	}
	return v.show("catalogs", "catalogs", "catalogs.title", p)
}

// catalogPage has a part of the operators of a catalog.
type catalogPage struct {
	listed
	api.CatalogPackages
	At      api.Place
	Name    string // of the catalog: repository:tag
	Command string
}

// catalog shows the operators of a catalog or, with operator=, one of them.
func (v *visit) catalog() error {
	at := catalogOf(v.r.PathValue("name"))
	if at.Repository == "" {
		http.Redirect(v.w, v.r, catalogsPath, http.StatusSeeOther)
		return nil
	}
	if name := v.r.URL.Query().Get("operator"); name != "" {
		return v.operator(at, name)
	}
	q := v.asked()
	page, err := v.c.api.Packages(v.r.Context(), api.PackagesRequest{Place: at, Page: q})
	if err != nil {
		return v.noCatalog(err)
	}
	last := ""
	if page.More {
		last = page.Packages[len(page.Packages)-1].Name
	}
	name := v.r.PathValue("name")
	return v.show("catalog", "catalogs", name, catalogPage{list(catalogAddress(at.Repository, at.Reference), q, last), page, at, name,
		"appliance list operators --catalog " + v.c.Address + "/" + name})
}

// noCatalog shows that there is no such catalog, also for a name that none can have, and returns other errors.
func (v *visit) noCatalog(err error) error {
	if status := statusOf(err); status == http.StatusNotFound || status == http.StatusBadRequest {
		return v.refusal(http.StatusNotFound, "catalogs.absent")
	}
	return err
}

// operatorPage is an operator of a catalog, with a part of its versions in a channel.
type operatorPage struct {
	listed
	api.CatalogBundles
	At      api.Place
	Catalog string // its name
	Command string
}

func (v *visit) operator(at api.Place, name string) error {
	after := v.r.URL.Query().Get("after")
	p, err := v.c.api.Package(v.r.Context(), api.PackageRequest{Place: at, Package: name, Channel: v.r.URL.Query().Get("channel"), After: after})
	if err != nil {
		return v.noCatalog(err)
	}
	page := operatorPage{CatalogBundles: p, At: at, Catalog: v.r.PathValue("name"),
		Command: "appliance list operators --catalog " + v.c.Address + "/" + v.r.PathValue("name") + " --package " + name}
	here := func(after string) string {
		return catalogAddress(at.Repository, at.Reference, "operator", name, "channel", p.Channel, "after", after)
	}
	if after != "" {
		page.First = here("")
	}
	if p.More {
		page.Next = here(p.Listed[len(p.Listed)-1].Name)
	}
	title := p.DisplayName
	if title == "" {
		title = name
	}
	return v.show("operator", "catalogs", title, page)
}
