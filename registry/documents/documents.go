// Package documents serves what clusters and engineers read from the registry besides images: the
// cluster resources of all that it mirrors, and the files that a medium brought.
//
// The files are artifacts of one repository, and the rule for pulling from it is theirs. The resources are rendered at each request from what the runs recorded of their tags, so that
// they are always those of what can be pulled: after a commit, a rollback or a delete there is
// nothing to bring up to date. They name the registry as its configuration does. The name that a
// request came to was refused: it may be an address, a tunnel or a proxy, clusters verify the
// certificate by the configured name, and a client must not choose what others apply.
package documents

import (
	"bytes"
	"encoding/json"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// document is a file of a listing.
type document struct {
	Name   string        `json:"name"`
	Size   int64         `json:"size"`
	Digest digest.Digest `json:"digest"`
}

// page is the listing for browsers.
var page = template.Must(template.New("").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{{.Title}}</title></head><body>
<h1>{{.Title}}</h1>
{{if .Documents}}<table>
{{range .Documents}}<tr><td><a href="./{{.Name}}">{{.Name}}</a></td><td>{{.Size}}</td><td><code>{{.Digest}}</code></td></tr>
{{end}}</table>{{else}}<p>There is nothing here yet.</p>{{end}}
</body></html>
`))

// writePage sends the listing for browsers.
func writePage(w http.ResponseWriter, r *http.Request, title string, all []document) error {
	var text bytes.Buffer
	if err := page.Execute(&text, map[string]any{"Title": title, "Documents": all}); err != nil {
		return err
	}
	serve(w, r, "text/html; charset=utf-8", text.Bytes())
	return nil
}

// wantsPage reports whether a listing is for a browser: others get JSON.
func wantsPage(r *http.Request) bool {
	return strings.Contains(strings.Join(r.Header.Values("Accept"), ","), "text/html")
}

// serve sends content that has an ETag, whole or in ranges.
func serve(w http.ResponseWriter, r *http.Request, mediaType string, content []byte) {
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Etag", `"`+digest.FromBytes(content).String()+`"`)
	h.Set("X-Content-Type-Options", "nosniff")
	// Listings are pages in the console's origin. A sandbox would keep a browser from saving what they list.
	h.Set("Content-Security-Policy", "default-src 'none'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("Server", api.Product)
	h.Set("Cache-Control", "private, no-cache") // another login may see another part
	h.Add("Vary", "Accept")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// Denied answers a request that auth.Require rejects.
func Denied(w http.ResponseWriter, _ *http.Request, status int) {
	problem, next := "the login could not be checked", "try again; the log of the registry has the reason"
	switch status {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", retry.Later)
	case http.StatusUnauthorized:
		problem, next = "user name and password are wanted, or were wrong", "log in as a user of this registry: podman login, curl -u USER"
	case http.StatusForbidden:
		problem, next = "this user may not read this", "log in as a user who may pull"
	case http.StatusTooManyRequests:
		problem, next = "too many wrong logins or requests", "wait as long as Retry-After says"
	}
	refuse(w, status, problem, next)
}

// refuse answers as the control API does, whose client reads it.
func refuse(w http.ResponseWriter, status int, problem, next string) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Server", api.Product)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(api.Refusal{Problem: problem, Hint: next}) // a client that went away needs no answer
}

// reads reports whether a request reads, and refuses it if not.
func reads(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	refuse(w, http.StatusMethodNotAllowed, r.Method+" is not taken here", "documents are read with GET and HEAD")
	return false
}
