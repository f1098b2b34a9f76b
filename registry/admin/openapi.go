package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/openapi"
	"github.com/mirror-appliance/appliance/registry/auth"
)

// route makes serve answer a call, which the document then has. A request whose query is not as the document
// has it does not reach serve.
func (h *Handler) route(c openapi.Call, serve http.HandlerFunc) {
	h.calls = append(h.calls, c)
	serve = h.permit(c, serve)
	h.mux.HandleFunc(c.Method+" "+c.Path, func(w http.ResponseWriter, r *http.Request) {
		if err := checkQuery(r, c.Query); err != nil {
			h.refuse(w, r, err)
			return
		}
		serve(w, r)
	})
}

// checkQuery returns an error for a query that is not of the parameters of a call.
func checkQuery(r *http.Request, parameters []api.Parameter) error {
	const next = "see the parameters of this call in /api/v1/openapi.json"
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return badRequest(fmt.Sprintf("the query is malformed: %v", err), next)
	}
	for _, p := range parameters {
		value := query.Get(p.Name)
		if p.Required && value == "" {
			return badRequest("the parameter "+p.Name+" is missing", "add ?"+p.Name+"=… to the address: "+p.Text)
		}
		if _, err := strconv.ParseBool(value); err != nil && value != "" && p.Type == "boolean" {
			return badRequest(fmt.Sprintf("the parameter %s is %q", p.Name, value), "write true or false")
		}
		if n, err := strconv.Atoi(value); (err != nil || n < 0) && value != "" && p.Type == "integer" {
			return badRequest(fmt.Sprintf("the parameter %s is %q", p.Name, value), "write a number")
		}
		delete(query, p.Name)
	}
	for name := range query {
		return badRequest(fmt.Sprintf("%s %s has no parameter %q", r.Method, r.URL.Path, name), next)
	}
	return nil
}

func (h *Handler) getOpenAPI(*http.Request, api.None) (json.RawMessage, error) { return h.document() }

var argument = regexp.MustCompile(`\{\w+\}`)

// describe returns the document of all calls, with those that packages documents and role answer.
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
	exchange := openapi.CallOf(api.ExchangeRoles)
	exchange.Roles = []string{} // a token is its login
	return openapi.Document(append(all, resources, exchange))
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
