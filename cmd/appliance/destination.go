package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/remote"
	"github.com/mirror-appliance/appliance/registry/admin"
)

// target is where the argument docker://HOST:PORT/PATH points.
type target struct{ registry, prefix string }

func parseDestination(argument string) (target, error) {
	registry, prefix, _ := strings.Cut(strings.TrimPrefix(argument, "docker://"), "/")
	prefix = strings.Trim(prefix, "/")
	bad := func(why string) (target, error) {
		return target{}, hint.New(fmt.Errorf("destination %s: %s", argument, why), "for example docker://registry.example.com:8443/path")
	}
	if i := strings.LastIndex(argument, "@"); i >= 0 && strings.Contains(registry, "@") { // which may be a password's end
		return target{}, hint.New(fmt.Errorf("destination docker://…%s: it has a login in it, which ps and the shell's history show", argument[i:]),
			"log in with podman login, name the file with --authfile, and leave the login out")

	}
	if registry == "" {
		return bad("it names no registry")
	}
	if strings.ContainsAny(prefix, "@:") {
		return bad("it has a tag or a digest, which a destination cannot have")
	}
	if _, err := name.NewRegistry(registry); err != nil {
		return bad(err.Error())
	}
	if prefix != "" {
		if _, err := name.NewRepository(registry + "/" + prefix); err != nil {
			return bad(err.Error())
		}
	}
	return target{registry, prefix}, nil
}

// destination is a registry that answers and takes our login.
type destination struct {
	kind  string
	begin func(ctx context.Context, name string) (mirror.Destination, error)
	close func()
}

// openDestination finds out what the destination is. An appliance takes blobs through its control API, staged; every
// other registry over the distribution protocol.
func openDestination(ctx context.Context, to target, o mirrorOptions, keys authn.Keychain) (*destination, error) {
	registry, err := name.NewRegistry(to.registry)
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
	files, err := trustFiles(o.destCertDir, to.registry)
	if err != nil {
		return nil, err
	}
	roots, err := trustPool(files)
	if err != nil {
		return nil, err
	}
	tlsConfig := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, InsecureSkipVerify: !o.destVerify} // only if the user says so
	client := admin.NewHTTPSClient(to.registry, login.Username, login.Password, tlsConfig)
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
		if o.destVerify || !speaksPlain(ctx, to.registry) {
			return nil, fmt.Errorf("checking registry %q access: %w", to.registry, err)
		}
		return openRemote(to, keys, nil, true)
	}
	client.Close()
	if refused != nil && refused.Product == admin.Product && refused.Status != http.StatusForbidden {
		if refused.Status != http.StatusUnauthorized {
			return nil, fmt.Errorf("checking registry %q access: %w", to.registry, refused)
		}
		return nil, accessRefused(to.registry, login.Username, refused)
	}
	// A user who may push and not administer can fill an appliance too, as any other registry.
	return openRemote(to, keys, tlsConfig, false)
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

func openRemote(to target, keys authn.Keychain, tlsConfig *tls.Config, plain bool) (*destination, error) {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true,
		MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 30 * time.Second,
		// Of a large blob that it has got a registry may make a copy before it answers. For ever is longer.
		ResponseHeaderTimeout: 10 * time.Minute,
		// A connection that has died without a word is noticed, and what is repeated goes over another.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
	return &destination{
		kind: "over the distribution protocol",
		begin: func(context.Context, string) (mirror.Destination, error) {
			return remote.Open(remote.Options{
				Registry: to.registry, PlainHTTP: plain, Transport: transport, Keychain: keys, UserAgent: "appliance/" + version,
			})
		},
		close: transport.CloseIdleConnections,
	}, nil
}

// speaksPlain says whether a registry answers without TLS, which --dest-tls-verify=false allows.
func speaksPlain(ctx context.Context, registry string) bool {
	address := registry
	if _, _, err := net.SplitHostPort(registry); err != nil {
		address = net.JoinHostPort(registry, "80")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/v2/", nil)
	if err != nil {
		return false
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	var resp *http.Response
	err = retry.Policy{Attempts: 3}.Do(ctx, func() (err error) { // one connection that drops must not decide it for a whole run
		resp, err = client.Do(r)
		return err
	})
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	// A TLS port answers 400, and one that sends its visitors on to TLS with a redirect.
	return resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusUnauthorized
}
