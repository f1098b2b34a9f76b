package registry

import (
	"encoding/pem"
	"net/http"

	"github.com/mirror-appliance/appliance/internal/regular"
)

// deniedPage answers a request of the console that is beyond its user's limit.
func deniedPage(w http.ResponseWriter, _ *http.Request, status int) {
	http.Error(w, "Too many requests of this user are under way. Close other windows of this page, and load it again.", status)
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
