package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/remote"
	"github.com/mirror-appliance/appliance/mirror/resources"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

// destination is a registry that answers and takes our login.
type destination struct {
	kind  string
	begin func(ctx context.Context, name string) (mirror.Destination, error)
	// served returns the cluster resources that an appliance serves; nil: it is another registry.
	served func(context.Context) ([]resources.File, error)
	close  func()
}

// loginFor returns the login that keys have for what is below a prefix of a registry.
func loginFor(keys authn.Keychain, address, prefix string) (*authn.AuthConfig, error) {
	registry, err := name.NewRegistry(address)
	if err != nil {
		return nil, err
	}
	var target authn.Resource = registry
	if prefix != "" {
		target = registry.Repo(prefix)
	}
	resolved, err := keys.Resolve(target)
	if err != nil {
		return nil, err
	}
	return resolved.Authorization()
}

// dialControl opens the control API of an appliance with the login that keys have for it, or for
// what is below a prefix.
func dialControl(ctx context.Context, address, prefix string, keys authn.Keychain,
	tlsConfig *tls.Config) (*client.Client, error) {
	login, err := loginFor(keys, address, prefix)
	if err != nil {
		return nil, err
	}
	return client.Dial(ctx, address, login.Username, login.Password, tlsConfig)
}

// openDestination finds out what the destination is. An appliance takes blobs through its control
// API, staged; every other registry over the distribution protocol.
func (o *mirrorOptions) openDestination(ctx context.Context, address, prefix string,
	keys authn.Keychain) (*destination, error) {
	if o.near != nil {
		return overControl(o.near, "the appliance of this host", func() {}), nil
	}
	login, err := loginFor(keys, address, prefix)
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
	control, err := client.Dial(ctx, address, login.Username, login.Password, tlsConfig)
	var refused *client.Refused
	switch {
	case err == nil:
		kind := "an appliance"
		if near := control.Near(ctx); near != nil {
			control.Close()
			control, kind = near, "the appliance of this host"
		}
		return overControl(control, kind, control.Close), nil
	case errors.As(err, &refused) && refused.Status == http.StatusUnauthorized:
		return nil, accessRefused(address, login.Username, refused)
	case errors.As(err, new(*client.NotApplianceError)), refused != nil && refused.Status == http.StatusForbidden:
		// A user of role push can fill an appliance too, as any other registry.
		return openRemote(ctx, address, prefix, keys, tlsConfig, false, *o)
	}
	plain := false
	if refused == nil && !o.destVerify {
		var broken error
		plain, broken = upstream.AnswersPlain(ctx, address)
		if broken != nil && noTLS(err) {
			return nil, fmt.Errorf("checking registry %q access: %w", address, broken)
		} // else the error of before says more
	}
	if !plain {
		if asked := new(url.Error); errors.As(err, &asked) && hintOf(err) == "" { // it may be no appliance
			err = fmt.Errorf("connect with TLS: %w", asked.Err)
		}
		err = fmt.Errorf("checking registry %q access: %w", address, err)
		if noTLS(err) {
			err = hint.New(err, "it does not speak TLS there: check the port, or allow plain HTTP with --dest-tls-verify=false")
		}
		return nil, err
	}
	return openRemote(ctx, address, prefix, keys, tlsConfig, true, *o)
}

// noTLS reports whether a connection failed since there is no TLS at its other end.
func noTLS(err error) bool {
	return errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, new(tls.RecordHeaderError))
}

// overControl is an appliance as a destination, by its control API.
func overControl(control *client.Client, kind string, end func()) *destination {
	return &destination{kind: kind, close: end,
		served: func(ctx context.Context) ([]resources.File, error) {
			all, err := control.Resources(ctx)
			var files []resources.File
			for _, f := range all {
				files = append(files, resources.File{Name: f.Name, Data: []byte(f.Data)})
			}
			return files, err
		},
		begin: func(ctx context.Context, name string) (mirror.Destination, error) {
			return control.BeginSync(ctx, name)
		}}
}

// accessRefused is the answer of an appliance to a login that it does not know.
func accessRefused(registry, user string, refused *client.Refused) error {
	err := fmt.Errorf("checking registry %q access: failed to authenticate: %w", registry, refused)
	next := "log in first: podman login " + registry
	if user != "" {
		next = fmt.Sprintf("the login of user %s is not good any more: podman login %s", user, registry)
	}
	return hint.New(err, next)
}

// accessLimit bounds the question whether a registry takes a login, as oc-mirror does.
const accessLimit = 2 * time.Minute

func openRemote(ctx context.Context, registry, prefix string, keys authn.Keychain, tlsConfig *tls.Config, plain bool,
	o mirrorOptions) (*destination, error) {
	to := remote.Options{
		Registry: registry, PlainHTTP: plain, TLS: tlsConfig, Keychain: keys,
		UserAgent: "appliance/" + version, Busy: o.busy, Log: o.log,
	}
	asked, err := remote.Open(to)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, accessLimit)
	defer cancel()
	if err := asked.CheckLogin(ctx, prefix); err != nil {
		return nil, fmt.Errorf("checking registry %q access: %w", registry, err)
	}
	to.Sessions = o.sessions
	return &destination{
		kind:  "over the distribution protocol",
		begin: func(context.Context, string) (mirror.Destination, error) { return remote.Open(to) },
		close: func() {},
	}, nil
}
