package console

import (
	"net/http"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

const clustersPath = updatesPath + "/clusters"

// clustersPage lists the attached clusters, and how others are attached.
type clustersPage struct {
	listed
	Clusters     []api.AttachedCluster
	From, To, Of int
	Export       string
	Attach       string
}

func (v *visit) clusters() error {
	all, err := v.c.api.Clusters(v.r.Context())
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b api.AttachedCluster) int { return strings.Compare(a.Name+" "+a.ID, b.Name+" "+b.ID) })
	p := clustersPage{Of: len(all), Export: state.Needed + " > prod.json\n" + state.Extensions + " >> prod.json",
		Attach: "appliance pin cluster prod.json --name prod docker://" + v.c.Address}
	p.Clusters, p.From, p.To, p.listed = part(v, all, rows, clustersPath)
	return v.show("updates-clusters", "updates", "updates.clusters", p)
}

// detachPage asks whether a cluster is to be detached.
type detachPage struct {
	CSRF    string
	Cluster api.AttachedCluster
}

// attached returns the attached cluster that the path names by its id.
func (v *visit) attached() (api.AttachedCluster, error) {
	id := v.r.PathValue("id")
	all, err := v.c.api.Clusters(v.r.Context())
	if err != nil {
		return api.AttachedCluster{}, err
	}
	i := slices.IndexFunc(all, func(c api.AttachedCluster) bool { return c.ID == id })
	if i < 0 {
		return api.AttachedCluster{}, &client.Refused{Status: http.StatusNotFound, Refusal: api.Refusal{
			Problem: v.c.views.text("updates.clusters.unknown", id), Hint: v.c.views.text("updates.clusters.unknown.hint")}}
	}
	return all[i], nil
}

func (v *visit) askDetach() error {
	c, err := v.attached()
	if err != nil {
		return err
	}
	return v.show("updates-detach", "updates", v.c.views.text("updates.detach.title", clusterName(c)), detachPage{v.session.CSRF, c})
}

func (v *visit) detach() error {
	c, err := v.attached()
	if err == nil {
		err = v.c.api.DetachCluster(v.r.Context(), c.ID)
	}
	if err != nil {
		return err
	}
	return v.done(clustersPath, v.c.views.text("updates.detached", clusterName(c)))
}

// clusterName returns what people call a cluster.
func clusterName(c api.AttachedCluster) string {
	if c.Name != "" {
		return c.Name
	}
	return c.ID
}
