package oci

import (
	"context"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/store"
)

// otherPath returns the target in another repository that has the digest of t, if that is to be served
// under any path and the user may read there. The scope of a token does not count: it is of the path that
// the client knows.
func (a *API) otherPath(r *http.Request, t target, holders func(context.Context, digest.Digest) ([]string, error)) (target, bool) {
	if !a.anyPath || t.digest == "" {
		return t, false
	}
	all, err := holders(r.Context(), t.digest)
	if err != nil {
		return t, false // the answer is then that of t
	}
	id, _ := auth.IdentityFrom(r.Context())
	for _, repo := range all {
		if repo == t.repo || !id.Sees(repo) {
			continue
		}
		if other, err := named(t, repo); err == nil {
			return other, true
		}
	}
	return t, false
}

// manifestElsewhere finds a manifest under another path. A client that may push is told by HEAD what the
// repository itself has.
func (a *API) manifestElsewhere(r *http.Request, t target) (store.Manifest, bool) {
	if id, _ := auth.IdentityFrom(r.Context()); r.Method == http.MethodHead && !id.Anonymous() && id.Role != auth.Pull {
		return store.Manifest{}, false
	}
	other, ok := a.otherPath(r, t, a.store.Manifests.AnyRepositories)
	if !ok {
		return store.Manifest{}, false
	}
	m, err := a.store.Manifests.Get(r.Context(), other.repo, other.digest)
	return m, err == nil
}
