package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// CheckLogin asks the registry whether it takes the login for what is below a path. The error is
// that it does not: whatever else is in the way, a run meets it too, and repeats its requests.
func (r *Run) CheckLogin(ctx context.Context, path string) error {
	var of authn.Resource = r.registry
	if path != "" {
		of = r.registry.Repo(path)
	}
	status, err := r.login.ask(ctx, of)
	if status != http.StatusUnauthorized {
		return nil
	}
	return hint.New(fmt.Errorf("failed to authenticate: %w",
		cmp.Or(err, errors.New("user name and password are wanted, or were wrong"))),
		"log in first: podman login "+r.registry.RegistryStr())
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
		status, _ := l.ask(ctx, l.registry)
		l.taken = status == http.StatusOK
	}
	return l.taken
}

// ask returns what the registry, or its token server, answers to the login for a resource; 0 is no
// answer.
func (l *login) ask(ctx context.Context, of authn.Resource) (status int, err error) {
	auth := authn.Anonymous
	if l.keychain != nil {
		if auth, err = authn.Resolve(ctx, l.keychain, of); err != nil {
			return 0, err
		}
	}
	if open, err := transport.Ping(ctx, l.registry, l.wire); err == nil && open.Scheme == "" {
		return http.StatusOK, nil // it has answered without a login
	}
	with, err := transport.NewWithContext(ctx, l.registry, auth, l.wire, nil)
	var refused *transport.Error
	if errors.As(err, &refused) {
		return refused.StatusCode, err
	}
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.registry.Scheme()+"://"+l.registry.RegistryStr()+"/v2/", nil)
	if err != nil {
		return 0, err
	}
	resp, err := (&http.Client{Transport: with}).Do(req)
	if errors.As(err, &refused) {
		return refused.StatusCode, err
	}
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	return resp.StatusCode, nil
}
