// Package updates is the update service of a disconnected cluster: the graph of releases that
// `oc adm upgrade` reads, and the signatures of those releases.
//
// The room is not built yet. What belongs here: /api/upgrades_info/graph, answered from what the
// store holds (a release is offered when its payload and all its components are held, edges come
// from the mirrored graph data), in the JSON that the cluster version operator expects; and
// release signatures, served from the store. It reads the store and nothing else: no
// OpenShift Update Service operator, no graph-data image in a pod, no second database.
//
// Until then every question is refused in the shape in which that service reports errors, so
// that a cluster pointed here says why it finds no updates.
package updates

import (
	"encoding/json"
	"net/http"
)

// Path is where the service answers; everything below it is this package's.
const Path = "/api/upgrades_info/"

// refusal is how the update service reports an error.
type refusal struct {
	Kind  string `json:"kind"`
	Value string `json:"value"`
}

// Handler answers everything under Path.
func Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNotImplemented)
		// A client that went away needs no answer.
		_ = json.NewEncoder(w).Encode(refusal{
			Kind:  "not_built",
			Value: "this appliance does not answer update graphs yet; upgrade with `oc adm upgrade --to-image` and a release digest, and leave spec.upstream of the ClusterVersion alone",
		})
	})
}
