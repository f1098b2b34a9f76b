// Package upstream reads manifests, blobs and referrers from a registry, for mirroring and for pull-through.
//
// Use New for one registry, Registries for any, and Keychain for the credentials of podman and docker. Names follow pkg/name
// (docker.io is index.docker.io, its one-word repositories are below library/); authentication (ping, Basic, bearer tokens)
// is go-containerregistry's.
//
// Refused: pkg/v1/remote. It starts a broken layer from the beginning, waits for a stalled connection without limit, and
// ignores Retry-After; each costs hours on a slow line. Also refused: plain HTTP when TLS fails. Plain HTTP is used where it
// is configured, and never together with TLS.
//
// Blobs come from the registry only. The URLs of foreign layers are not fetched.
package upstream

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/mirror-appliance/appliance/internal/pace"
	"github.com/mirror-appliance/appliance/internal/retry"
)

// Options configures a Client.
type Options struct {
	// Registry is host[:port]. "docker.io" is Docker Hub. A leading http:// means plain HTTP and is accepted for loopback
	// only; a leading https:// is ignored.
	Registry string
	// PlainHTTP reads over HTTP and never over TLS.
	PlainHTTP bool
	// CAFiles are PEM files of CAs that are trusted besides the system's.
	CAFiles []string
	// SkipVerify trusts any certificate (--tls-verify=false).
	SkipVerify bool
	// Keychain finds credentials; nil reads anonymously.
	Keychain authn.Keychain
	// UserAgent is sent with every request; "" sends "appliance".
	UserAgent string
	// Retries is the number of retries of a request, and of resumptions of a blob without progress. 0 means 5, less than
	// 0 none.
	Retries int
	// Sleep waits between two attempts and returns early, with ctx's error, when ctx ends. nil is a timer.
	Sleep func(ctx context.Context, d time.Duration) error
	// Serving returns a rate limit (429) of the upstream, or a longer wait, as an error: a client waits for the answer.
	Serving bool
	// Idle runs wait, during which a request does nothing; nil calls wait. A caller that limits concurrent requests need
	// not count these.
	Idle func(ctx context.Context, wait func(context.Context) error) error
	// Log receives every retry; nil discards.
	Log *slog.Logger

	stall time.Duration // longest time without progress; 0 means pace.Patience
}

// Client reads one registry. It is safe for concurrent use.
type Client struct {
	registry name.Registry
	plain    bool
	keychain authn.Keychain
	base     http.RoundTripper // retries; below authentication
	retry    *retrier
	sessions sessions
	hosts    *hostGuard
}

// New returns a client. It reads the CA files and sends no request.
func New(o Options) (*Client, error) {
	host, plain, err := parseRegistry(o.Registry, o.PlainHTTP)
	if err != nil {
		return nil, err
	}
	var rules []name.Option
	if plain {
		rules = append(rules, name.Insecure)
	}
	registry, err := name.NewRegistry(host, rules...)
	if err != nil {
		return nil, fmt.Errorf("registry %q: %w", o.Registry, err)
	}
	o = o.withDefaults()
	wire, err := newWire(o.CAFiles, o.SkipVerify, o.stall)
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", host, err)
	}
	retries := &retrier{attempts: o.Retries + 1, serving: o.Serving, sleep: o.Sleep, idle: o.Idle, log: o.Log.With("registry", registry.Name())}
	hosts := newHostGuard(registry.RegistryStr(), wire)
	return &Client{
		registry: registry,
		plain:    plain,
		keychain: o.Keychain,
		retry:    retries,
		base: &retryTransport{retrier: retries, inner: &stallTransport{
			limit: o.stall,
			inner: &schemeGuard{plain: plain, host: registry.RegistryStr(), userAgent: o.UserAgent, inner: hosts},
		}},
		hosts: hosts,
	}, nil
}

func (o Options) withDefaults() Options {
	if o.Keychain == nil {
		o.Keychain = anonymous{}
	}
	if o.UserAgent == "" {
		o.UserAgent = "appliance"
	}
	switch {
	case o.Retries == 0:
		o.Retries = 5
	case o.Retries < 0:
		o.Retries = 0
	}
	if o.stall <= 0 {
		o.stall = pace.Patience
	}
	if o.Sleep == nil {
		o.Sleep = retry.Sleep
	}
	if o.Idle == nil {
		o.Idle = func(ctx context.Context, wait func(context.Context) error) error { return wait(ctx) }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Close closes idle connections. Reads under way continue.
func (c *Client) Close() { c.hosts.CloseIdleConnections() }

// Registry returns the host[:port] of the registry, as pkg/name spells it.
func (c *Client) Registry() string { return c.registry.RegistryStr() }

// repository checks a name by the registry's rules.
func (c *Client) repository(repo string) (name.Repository, error) {
	for part := range strings.SplitSeq(repo, "/") {
		if part == "" || part == "." || part == ".." {
			return name.Repository{}, fmt.Errorf("registry %s: %q is not a repository name", c.Registry(), repo)
		}
	}
	// Checked below a host: NewRepository takes a first part without a dot for a namespace of Docker Hub.
	if _, err := name.NewRepository("host.invalid/" + repo); err != nil {
		return name.Repository{}, fmt.Errorf("registry %s: %w", c.Registry(), err)
	}
	return c.registry.Repo(repo), nil
}

// parseRegistry parses a user's registry into host[:port] and whether it is read without TLS.
func parseRegistry(s string, plain bool) (host string, http bool, err error) {
	host, http = s, plain
	if rest, ok := strings.CutPrefix(s, "https://"); ok {
		host = rest
	}
	if rest, ok := strings.CutPrefix(s, "http://"); ok {
		host, http = rest, true
		if !plain && !loopback(rest) {
			return "", false, fmt.Errorf("registry %q: plain HTTP is only for loopback unless it is asked for explicitly", s)
		}
	}
	host = strings.TrimSuffix(host, "/")
	if host == "" || strings.ContainsAny(host, "/@ ") {
		return "", false, fmt.Errorf("registry %q is not of the form host[:port]", redactUser(s))
	}
	return host, http, nil
}

// redactUser removes a password before the host.
func redactUser(s string) string {
	if i := strings.LastIndex(s, "@"); i >= 0 {
		return "…" + s[i:]
	}
	return s
}

func loopback(hostport string) bool {
	host := strings.TrimSuffix(hostport, "/")
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && ip.IsLoopback()
}
