package admin

import (
	"encoding/json"
	"net/http"
	"regexp"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/openapi"
	"github.com/mirror-appliance/appliance/registry/auth"
)

// route makes serve answer a call, which the document then has.
func (h *Handler) route(c openapi.Call, serve http.HandlerFunc) {
	h.calls = append(h.calls, c)
	h.mux.HandleFunc(c.Method+" "+c.Path, serve)
}

func (h *Handler) getOpenAPI(*http.Request, api.None) (json.RawMessage, error) { return h.document() }

var argument = regexp.MustCompile(`\{\w+\}`)

// describe returns the document of all calls, with the one that package documents answers.
func (h *Handler) describe() (json.RawMessage, error) {
	all := append([]openapi.Call{}, h.calls...)
	for i, c := range all {
		r, err := http.NewRequest(c.Method, "https://registry"+argument.ReplaceAllString(c.Path, "x"), http.NoBody)
		if err != nil {
			return nil, err
		}
		all[i].Roles = roles(Action(r))
	}
	resources := openapi.CallOf(api.GetResources)
	resources.Roles = roles(auth.Login)
	return openapi.Document(append(all, resources))
}

// roles returns the names of the roles that may do an action.
func roles(action auth.Action) (names []string) {
	for _, role := range []auth.Role{auth.Pull, auth.Push, auth.Admin} {
		if role.May(action) {
			names = append(names, string(role))
		}
	}
	return names
}
