package auth

import (
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/internal/image"
)

// A Scope is what a token is requested for and allows, in the form of distribution and Quay:
// repository:openshift/release:pull,push or registry:catalog:*.
type Scope struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// The actions of a scope. The catalog has only *.
const (
	ScopePull   = "pull"
	ScopePush   = "push"
	ScopeDelete = "delete"
	scopeAll    = "*"
)

const (
	typeRepository = "repository"
	typeRegistry   = "registry"
	nameCatalog    = "catalog"
)

// RepositoryScope returns the scope of actions on a repository.
func RepositoryScope(repo string, actions ...string) Scope {
	return Scope{Type: typeRepository, Name: repo, Actions: actions}
}

// CatalogScope returns the scope of the catalog.
func CatalogScope() Scope {
	return Scope{Type: typeRegistry, Name: nameCatalog, Actions: []string{scopeAll}}
}

func (s Scope) String() string { return s.Type + ":" + s.Name + ":" + strings.Join(s.Actions, ",") }

// Challenge returns the scope for a challenge. It includes pull: pushes and deletes begin with a
// read.
func (s Scope) Challenge() string {
	if s.Type == typeRepository && !slices.Contains(s.Actions, ScopePull) {
		s.Actions = append([]string{ScopePull}, s.Actions...)
	}
	return s.String()
}

// parseScopes parses the scope parameters of a request for a token; each may hold several.
// Malformed and unknown scopes are left out of the token, as in distribution.
func parseScopes(parameters []string) []Scope {
	var scopes []Scope
	for _, parameter := range parameters {
		for text := range strings.FieldsSeq(parameter) {
			kind, rest, _ := strings.Cut(text, ":")
			i := strings.LastIndexByte(rest, ':')
			if i < 0 || len(scopes) == maxScopes {
				continue
			}
			kind, _, _ = strings.Cut(kind, "(") // the class of a repository, such as plugin
			scopes = append(scopes, Scope{Type: kind, Name: rest[:i], Actions: strings.Split(rest[i+1:], ",")})
		}
	}
	return scopes
}

// maxScopes bounds a token, which must fit into a header. A client requests two for a mount.
const maxScopes = 32

// grant returns the part of the scopes that the user may have. An empty result is still a
// token: a client without a login gets it for any repository that it may not pull, whether or
// not the repository exists.
func (i Identity) grant(asked []Scope) []Scope {
	granted := []Scope{}
	for _, s := range asked {
		var actions []string
		switch {
		case s.Type == typeRepository && image.ValidRepository(s.Name):
			for _, action := range []string{ScopePull, ScopePush, ScopeDelete} {
				if (slices.Contains(s.Actions, action) || slices.Contains(s.Actions, scopeAll)) &&
					i.mayScope(s.Name, action) {
					actions = append(actions, action)
				}
			}
		case s.Type == typeRegistry && s.Name == nameCatalog && slices.Contains(s.Actions, scopeAll):
			actions = []string{scopeAll}
		}
		if actions != nil {
			granted = append(granted, Scope{Type: s.Type, Name: s.Name, Actions: actions})
		}
	}
	return granted
}

func (i Identity) mayScope(repo, action string) bool {
	if action == ScopePull {
		return i.Sees(repo)
	}
	return i.Role.May(Write) && i.MayRepository(repo)
}

// HasToken reports whether the request came with a token.
func (i Identity) HasToken() bool { return i.scopes != nil }

// Covers reports whether the login is valid for a scope: a password for every scope, a token for
// its own. It does not look at the user's role and grants.
func (i Identity) Covers(need Scope) bool {
	if i.scopes == nil {
		return true
	}
	for _, action := range need.Actions {
		if !slices.ContainsFunc(i.scopes, func(s Scope) bool {
			return s.Type == need.Type && s.Name == need.Name && slices.Contains(s.Actions, action)
		}) {
			return false
		}
	}
	return true
}
