package registry_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// TestUpdates_whoDecides has a user push releases and graph data who may push to some repositories only. What
// clusters are offered stays what it is, until a user pushes them who may push to all.
func TestUpdates_whoDecides(t *testing.T) {
	u := newUpdated(t)
	u.channels("stable-4.18")
	u.becomes("stable-4.18", "4.18.1 4.18.2 4.18.3")
	_, before, _ := u.graph("stable-4.18", "amd64")
	_, err := u.admin.CreateUser(t.Context(), api.NewUser{Name: "team", Role: "push", Password: password, Repositories: []string{"team/*", "openshift/*"}})
	must(t, err)
	fourth, _ := u.source.Release("4.18.4", "amd64")
	risky, err := name.ParseReference(fourth.Payload, name.Insecure)
	must(t, err)
	image, err := remote.Image(risky)
	must(t, err)
	graph, err := remote.Image(tag(t, "openshift/graph-image:latest"), u.remote(t, "team", password)...)
	must(t, err)
	for _, to := range []string{"team/release-images:latest", "team/app:4.18.4-x86_64", "openshift/release-images:4.18.2-x86_64"} {
		must(t, remote.Write(tag(t, to), image, u.remote(t, "team", password)...))
	}
	must(t, remote.Write(tag(t, "team/graph-image:latest"), graph, u.remote(t, "team", password)...))
	told := func(want ...string) (offered api.Updates, ok bool) {
		for range 400 {
			offered, err = u.admin.Updates(t.Context(), api.UpdatesRequest{})
			must(t, err)
			all := ""
			for _, p := range offered.Problems {
				all += p.Where + " " + p.What + "\n"
			}
			ok = true
			for _, one := range want {
				ok = ok && strings.Contains(all, one+" it does not count: user team")
			}
			if ok {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		return offered, ok
	}
	offered, ok := told("team/release-images:latest", "team/app:4.18.4-x86_64", "openshift/release-images:4.18.2-x86_64", "team/graph-image:latest")
	if !ok || offered.GraphData == nil || offered.GraphData.Image != "openshift/graph-image:latest" {
		t.Errorf("after the pushes %+v, %+v", offered.GraphData, offered.Problems)
	}
	u.becomes("stable-4.18", "4.18.1 4.18.3") // the tag of 4.18.2 names another image
	u.push(fourth.Payload, "ocp/app:4.18.4-x86_64")
	second, _ := u.source.Release("4.18.2", "amd64")
	u.push(second.Payload, "ocp/app:4.18.2-x86_64")
	u.becomes("candidate-4.18", "4.18.1 4.18.2 4.18.3 4.18.4")
	if _, after, _ := u.graph("stable-4.18", "amd64"); len(after.Nodes) != len(before.Nodes) {
		t.Errorf("in the end it is %+v", after)
	}
}
