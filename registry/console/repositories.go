package console

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/auth"
)

// listed is a part of a long list: what was asked for, and where the other parts are.
type listed struct {
	Path        string // of the page
	Search      string
	First, Next string // "": this is the first, or the last
}

// asked returns the part of a list that the address asks for.
func (v *visit) asked() api.Page {
	q := v.r.URL.Query()
	return api.Page{Search: strings.TrimSpace(q.Get("search")), After: q.Get("after")}
}

// list returns where the other parts are. last is the last name of this one, "" if no other follows.
func list(path string, q api.Page, last string) listed {
	l := listed{Path: path, Search: q.Search}
	if q.After != "" {
		l.First = address(path, "search", q.Search)
	}
	if last != "" {
		l.Next = address(path, "search", q.Search, "after", last)
	}
	return l
}

// address returns a path with parameters, of which empty ones are left out.
func address(path string, pairs ...string) string {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

const repositoriesPath = "/repositories"

// imageAddress returns the path of an image's page.
func imageAddress(repo, ref string) string {
	return address(repositoriesPath+"/"+(&url.URL{Path: repo}).EscapedPath(), "image", ref)
}

type repositoriesPage struct {
	listed
	Address      string
	Repositories []api.Repository
	All          bool // the user may see all repositories
}

func (v *visit) repositories() error {
	q := v.asked()
	page, err := v.c.api.Repositories(v.r.Context(), q)
	if err != nil {
		return err
	}
	last := ""
	if page.More {
		last = page.Repositories[len(page.Repositories)-1].Name
	}
	return v.show("repositories", "repositories", "repositories.title", repositoriesPage{listed: list(repositoriesPath, q, last),
		Address: v.c.Address, Repositories: page.Repositories, All: !v.session.Identity.Restricted()})
}

type repositoryPage struct {
	listed
	Repository string
	Tags       []api.TaggedImage
}

// repository shows the tags of a repository or, with image=, one of its images.
func (v *visit) repository() error {
	name := v.r.PathValue("name")
	if name == "" {
		http.Redirect(v.w, v.r, repositoriesPath, http.StatusSeeOther)
		return nil
	}
	if ref := v.r.URL.Query().Get("image"); ref != "" {
		return v.image(api.Place{Repository: name, Reference: ref})
	}
	q := v.asked()
	page, err := v.c.api.Tags(v.r.Context(), api.TagsRequest{Repository: name, Page: q})
	if err != nil {
		return v.absent(api.Place{Repository: name}, err)
	}
	last := ""
	if page.More {
		last = page.Tags[len(page.Tags)-1].Tag
	}
	return v.show("repository", "repositories", name, repositoryPage{listed: list(imageAddress(name, ""), q, last), Repository: name, Tags: page.Tags})
}

// absentPage is in the place of a repository or an image that there is not.
type absentPage struct {
	api.Place
	Tag bool // and no digest
}

// absent shows that there is no such repository or image, and returns other errors.
func (v *visit) absent(at api.Place, err error) error {
	if _, part := v.part(); statusOf(err) != http.StatusNotFound || part {
		return err
	}
	_, wrong := digest.Parse(at.Reference)
	return v.write(http.StatusNotFound, "image-absent", "repositories", "repositories.absent.title", absentPage{at, wrong != nil})
}

type imagePage struct {
	api.Image
	Name     string // as it was asked for
	Full     string // with the address of the registry
	ByDigest string
	Commands []command
	Change   bool // the user may delete it
	Needs    bool // the user may ask what needs it
}

// command is a command line to copy.
type command struct{ Tool, Line string }

func (v *visit) image(at api.Place) error {
	a, err := v.c.api.Image(v.r.Context(), at)
	if err != nil {
		return v.absent(at, err)
	}
	id := v.session.Identity
	p := imagePage{Image: a, Name: nameOf(a.Repository, a.Tag, a.Digest), ByDigest: v.c.Address + "/" + nameOf(a.Repository, "", a.Digest),
		Change: v.session.May(auth.Write) && id.MayRepository(a.Repository), Needs: v.session.May(auth.Write) && !v.session.Identity.Restricted()}
	p.Full = v.c.Address + "/" + p.Name
	p.Commands = commands(p)
	return v.show("image", "repositories", p.Name, p)
}

type signaturesPage struct {
	api.ImageSignatures
	Name, Back string
}

// imageSignatures shows the signatures of an image. Payloads of releases may be read for it.
func (v *visit) imageSignatures() error {
	q := v.r.URL.Query()
	at := api.Place{Repository: q.Get("repository"), Reference: q.Get("image")}
	found, err := v.c.api.Signatures(v.r.Context(), at)
	if err != nil {
		return v.absent(at, err)
	}
	p := signaturesPage{found, nameOrDigest(at), imageAddress(at.Repository, at.Reference)}
	return v.show("image-signatures", "repositories", p.Name, p)
}

// nameOf returns the name of an image by its tag or, without one, by its digest.
func nameOf(repo, tag string, d digest.Digest) string {
	if tag == "" {
		return repo + "@" + d.String()
	}
	return repo + ":" + tag
}

var platform = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9]+$`)

// plain reports whether the platform of an image, which others have written, can be a word of a command.
func plain(p api.ImagePlatform) bool {
	return platform.MatchString(p.Platform) && !strings.HasPrefix(p.Platform, "unknown/")
}

// commands returns how clients get an image.
func commands(p imagePage) []command {
	copied := command{"skopeo", "skopeo copy --all docker://" + p.Full + " oci-archive:image.tar"}
	switch p.Kind {
	case api.KindChart:
		line := "helm pull oci://" + strings.TrimSuffix(p.ByDigest, "@"+p.Digest.String())
		if p.Tag != "" {
			line += " --version " + strings.ReplaceAll(p.Tag, "_", "+") // as helm writes the + of a version into a tag
		}
		return []command{{"helm", line}, copied}
	case api.KindImage, api.KindIndex:
		info := "oc image info " + p.Full
		if i := slices.IndexFunc(p.Platforms, plain); i >= 0 { // oc shows one of them, which has to be named
			info += " --filter-by-os=" + p.Platforms[i].Platform
		}
		return []command{{"podman", "podman pull " + p.Full}, copied, {"oc", info}}
	}
	return []command{copied}
}
