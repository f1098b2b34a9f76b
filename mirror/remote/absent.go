package remote

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// absent reports whether the registry does not have what was asked for.
//
// Of a repository that is not there yet Quay, Docker Hub and GitLab tell that it may not be read,
// since a token for it grants nothing. A push creates it. So with a login that is good 401 and 403
// are taken for absent, and the push decides.
func (r *Run) absent(ctx context.Context, err error) bool {
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return false
	}
	switch answer.StatusCode {
	case http.StatusNotFound:
		return true
	case http.StatusUnauthorized, http.StatusForbidden:
		return r.login.good(ctx)
	}
	return false
}

// login tells whether the registry takes the login, apart from what it may be used for.
type login struct {
	registry name.Registry
	keychain authn.Keychain
	wire     http.RoundTripper

	mu    sync.Mutex // guards taken
	taken bool
}

// good asks the registry until it has said yes once.
func (l *login) good(ctx context.Context) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.taken {
		l.taken = l.ask(ctx)
	}
	return l.taken
}

func (l *login) ask(ctx context.Context) bool {
	auth := authn.Anonymous
	if l.keychain != nil {
		found, err := authn.Resolve(ctx, l.keychain, l.registry)
		if err != nil {
			return false
		}
		auth = found
	}
	with, err := transport.NewWithContext(ctx, l.registry, auth, l.wire, nil)
	if err != nil {
		return false
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.registry.Scheme()+"://"+l.registry.RegistryStr()+"/v2/", nil)
	if err != nil {
		return false
	}
	resp, err := (&http.Client{Transport: with}).Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
