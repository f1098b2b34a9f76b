package registry

import (
	"encoding/pem"
	"fmt"
	"net/http"

	"github.com/mirror-appliance/appliance/internal/regular"
)

// The web console (registry/console) is not built. Until then its paths refuse in the form that their
// clients read.

// refuseConsole answers all other paths. address is host:port as clients reach the registry.
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

// caFile serves the certificates in the file at path, and nothing else in it, such as a key. It
// reads the file at each request, so a new CA needs no restart.
func caFile(path string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if path == "" {
			http.Error(w, "the CA of this registry is not kept here; ask whoever runs it", http.StatusNotFound)
			return
		}
		data, err := regular.ReadFile(path)
		certificates := certificatesIn(data)
		if err != nil || len(certificates) == 0 {
			http.Error(w, "the CA certificate cannot be read; the registry's configuration names it as tls.ca", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/x-x509-ca-cert")
		_, _ = w.Write(certificates) // a client that went away needs no answer
	})
}

func certificatesIn(data []byte) []byte {
	var out []byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
		}
	}
	return out
}
