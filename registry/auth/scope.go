package auth

import (
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/internal/image"
)

// A Scope is what a token is asked for, or what it lets its bearer do, in the form that distribution and Quay have:
// repository:openshift/release:pull,push or registry:catalog:*.
type Scope struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// The actions of a scope. What the catalog lists, nothing but * reads.
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

// RepositoryScope is one of a repository.
func RepositoryScope(repo string, actions ...string) Scope {
	return Scope{Type: typeRepository, Name: repo, Actions: actions}
}

// CatalogScope is that of the catalog.
func CatalogScope() Scope {
	return Scope{Type: typeRegistry, Name: nameCatalog, Actions: []string{scopeAll}}
}

func (s Scope) String() string { return s.Type + ":" + s.Name + ":" + strings.Join(s.Actions, ",") }

// Challenge is the scope as a client is told to ask for it: pushing and deleting begin with a look at what is there.
func (s Scope) Challenge() string {
	if s.Type == typeRepository && !slices.Contains(s.Actions, ScopePull) {
		s.Actions = append([]string{ScopePull}, s.Actions...)
	}
	return s.String()
}

// parseScopes reads the parameters of a request for a token, each of which may hold several. What is not a scope, or of
// something that there is not here, is left out, as distribution does: the token does not have it.
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

// maxScopes bounds a token, which has to fit into a header. A client asks for two when it mounts.
const maxScopes = 32

// grant is what of the scopes a user may have. The empty Scopes remain: a token without rights is what a client without
// a login gets for a repository that it may not pull, whether or not that exists.
func (i Identity) grant(asked []Scope) []Scope {
	granted := []Scope{}
	for _, s := range asked {
		var actions []string
		switch {
		case s.Type == typeRepository && image.ValidRepository(s.Name):
			for _, action := range []string{ScopePull, ScopePush, ScopeDelete} {
				if (slices.Contains(s.Actions, action) || slices.Contains(s.Actions, scopeAll)) && i.mayScope(s.Name, action) {
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

// Covers reports whether the login is good for a scope: a password is for every one, a token for those that it was
// issued for. What the user may do is not looked at.
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
