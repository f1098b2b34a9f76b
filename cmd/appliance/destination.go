package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/remote"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/admin"
)

// destination is a registry that answers and takes our login.
type destination struct {
	kind  string
	begin func(ctx context.Context, name string) (mirror.Destination, error)
	close func()
}

// openDestination finds out what the destination is. An appliance takes blobs through its control API, staged; every
// other registry over the distribution protocol.
func openDestination(ctx context.Context, address string, o mirrorOptions, keys authn.Keychain) (*destination, error) {
	registry, err := name.NewRegistry(address)
	if err != nil {
		return nil, err
	}
	resolved, err := keys.Resolve(registry)
	if err != nil {
		return nil, err
	}
	login, err := resolved.Authorization()
	if err != nil {
		return nil, err
	}
	files, err := upstream.TrustFiles(o.destCertDir, address)
	if err != nil {
		return nil, err
	}
	tlsConfig, err := upstream.TLSConfig(files, !o.destVerify)
	if err != nil {
		return nil, err
	}
	client := admin.NewHTTPSClient(address, login.Username, login.Password, tlsConfig)
	var status admin.Status
	err = thrice(ctx, func() (err error) {
		status, err = client.Status(ctx)
		return err
	})
	var refused *admin.Error
	switch {
	case err == nil && status.Address != "": // which only an appliance says
		return &destination{
			kind: "an appliance",
			begin: func(ctx context.Context, name string) (run mirror.Destination, err error) {
				err = thrice(ctx, func() (err error) {
					run, err = client.BeginSync(ctx, name)
					return err
				})
				return run, err
			},
			close: client.Close,
		}, nil
	case err != nil && !errors.As(err, &refused):
		client.Close()
		if o.destVerify || !upstream.AnswersPlain(ctx, address) {
			return nil, fmt.Errorf("checking registry %q access: %w", address, err)
		}
		return openRemote(address, keys, nil, true), nil
	}
	client.Close()
	if refused != nil && refused.Product == admin.Product && refused.Status != http.StatusForbidden {
		if refused.Status != http.StatusUnauthorized {
			return nil, fmt.Errorf("checking registry %q access: %w", address, refused)
		}
		return nil, accessRefused(address, login.Username, refused)
	}
	// A user who may push and not administer can fill an appliance too, as any other registry.
	return openRemote(address, keys, tlsConfig, false), nil
}

// thrice asks again when a connection drops. A host that is not reached, or that has answered, is asked once.
func thrice(ctx context.Context, ask func() error) error {
	dropped := func(err error) (bool, time.Duration) {
		var refused *admin.Error
		var dial *net.OpError
		return !errors.As(err, &refused) && !(errors.As(err, &dial) && dial.Op == "dial"), 0
	}
	return retry.Policy{Attempts: 3, Again: dropped}.Do(ctx, ask)
}

// accessRefused is the answer of an appliance to a login that it does not know.
func accessRefused(registry, user string, refused *admin.Error) error {
	err := fmt.Errorf("checking registry %q access: failed to authenticate: %w", registry, refused)
	next := "log in first: podman login " + registry
	if user != "" {
		next = fmt.Sprintf("the login of user %s is not good any more: podman login %s", user, registry)
	}
	return hint.New(err, next)
}

func openRemote(registry string, keys authn.Keychain, tlsConfig *tls.Config, plain bool) *destination {
	return &destination{
		kind: "over the distribution protocol",
		begin: func(context.Context, string) (mirror.Destination, error) {
			return remote.Open(remote.Options{Registry: registry, PlainHTTP: plain, TLS: tlsConfig, Keychain: keys, UserAgent: "appliance/" + version})
		},
		close: func() {},
	}
}
