package console

import (
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/auth"
)

type deletePage struct {
	api.Deletion
	CSRF                  string
	Repository, Reference string
	Name                  string
	Untag                 bool // a tag alone is deleted
	Needs                 bool // the user may ask what needs it
	Back                  string
	Command               string
	Error                 *problem
}

func (v *visit) askDeleteImage() error {
	q := v.r.URL.Query()
	return v.showDelete(http.StatusOK, api.Place{Repository: q.Get("repository"), Reference: q.Get("image")}, nil)
}

func (v *visit) showDelete(status int, at api.Place, failed *problem) error {
	plan, err := v.c.api.PlanDelete(v.r.Context(), at)
	if err != nil {
		return v.absent(at, err)
	}
	p := deletePage{Deletion: plan, CSRF: v.session.CSRF, Repository: at.Repository, Reference: at.Reference, Error: failed,
		Back: imageAddress(at.Repository, at.Reference), Needs: v.session.May(auth.Write) && !v.session.Identity.Restricted()}
	tag := at.Reference
	if _, err := digest.Parse(at.Reference); err == nil {
		tag = ""
	}
	p.Untag, p.Name = tag != "", nameOf(at.Repository, tag, plan.Digest)
	if p.Command = "skopeo delete docker://" + v.c.Address + "/" + p.Name; p.Untag {
		p.Command = "" // it would delete the image
	}
	return v.write(status, "image-delete", "repositories", p.Name, p)
}

func (v *visit) deleteImage() error {
	at := api.Place{Repository: v.field("repository"), Reference: v.field("image")}
	if err := v.c.api.DeleteImage(v.r.Context(), at); err != nil {
		failed := problemOf(err)
		return v.showDelete(statusOf(err), at, &failed)
	}
	return v.done(imageAddress(at.Repository, ""), v.c.views.text("image.deleted", nameOrDigest(at)))
}

func nameOrDigest(at api.Place) string {
	if d, err := digest.Parse(at.Reference); err == nil {
		return nameOf(at.Repository, "", d)
	}
	return nameOf(at.Repository, at.Reference, "")
}

type needsPage struct {
	Repository, Name, Back string
	Needs                  []string
}

// imageNeeds shows what needs an image under any of its tags. Whole catalogs are read for it.
func (v *visit) imageNeeds() error {
	q := v.r.URL.Query()
	at := api.Place{Repository: q.Get("repository"), Reference: q.Get("image")}
	a, err := v.c.api.Image(v.r.Context(), at)
	if err != nil {
		return v.absent(at, err)
	}
	places := []api.Place{{Repository: a.Repository, Reference: a.Digest.String()}}
	for _, tag := range a.Tags {
		places = append(places, api.Place{Repository: a.Repository, Reference: tag})
	}
	needs, err := v.c.api.Needs(v.r.Context(), "", places)
	if err != nil {
		return err
	}
	p := needsPage{Repository: a.Repository, Name: nameOf(a.Repository, a.Tag, a.Digest), Back: imageAddress(at.Repository, at.Reference)}
	told := map[string]bool{}
	for _, n := range needs {
		if !n.Content && !told[n.By] {
			told[n.By] = true
			p.Needs = append(p.Needs, n.By)
		}
	}
	return v.show("image-needs", "repositories", p.Name, p)
}
