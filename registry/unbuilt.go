package registry

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// The update service and the web console are not built. What will be registry/updates answers the update graph of a
// disconnected cluster, and what will be registry/console shows repositories, tags and users in a browser. Until then
// each path refuses in the form that its clients read, and names the alternative.

// updatesPath is where a cluster version operator asks for the update graph.
const updatesPath = "/api/upgrades_info/"

// refuseUpdates answers in the form in which the update service reports an error.
func refuseUpdates(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNotImplemented)
	// A client that went away needs no answer.
	_ = json.NewEncoder(w).Encode(map[string]string{
		"kind":  "not_built",
		"value": "this appliance does not answer update graphs yet; upgrade with `oc adm upgrade --to-image` and a release digest, and leave spec.upstream of the ClusterVersion alone",
	})
}

// refuseConsole answers each path that no other handler answers. address is host:port as clients reach the registry.
func refuseConsole(address string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if r.URL.Path != "/" {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprintf(w, "There is nothing at this path. See https://%s/ for what there is.\n", address)
			return
		}
		w.WriteHeader(http.StatusNotImplemented)
		fmt.Fprintf(w, `This is an appliance, a container registry. Its web console is not built yet.

What works:
  podman login %[1]s
  https://%[1]s/health/instance
  https://%[1]s/metrics
  https://%[1]s/ca.crt
`, address)
	}
}
