package updates

import (
	_ "embed"
	"net/http"
)

// document describes the paths for programs that read such descriptions.
//
//go:embed openapi.json
var document []byte

// openAPI sends the description of the update service.
func openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", mediaType)
	_, _ = w.Write(document) // a client that went away needs no answer
}
