// Package console is the web console: repositories, tags and users in a browser.
//
// The room is not built yet. What belongs here: pages rendered in Go from embedded templates,
// over the store and with the login of package auth, without a script build chain and without
// anything fetched from elsewhere, since there is no elsewhere at a disconnected site.
//
// Until then / says so, and says what works: a person who opens the address that install
// printed should not meet a bare 404.
package console

import (
	"fmt"
	"net/http"
)

// Handler answers whatever no other room does. address is host:port as people reach the registry.
func Handler(address string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if r.URL.Path != "/" {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprintf(w, "There is nothing at this path. https://%s/ says what there is.\n", address)
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
	})
}
