// Package upstream reads manifests, blobs and referrers from a registry, for mirroring and for
// pull-through.
//
// Use New for one registry, Registries for any, and Keychain for the credentials of podman and
// docker. Names follow pkg/name (docker.io is index.docker.io, its one-word repositories are below
// library/); authentication (ping, Basic, bearer tokens) is go-containerregistry's.
//
// Refused: pkg/v1/remote. It starts a broken layer from the beginning, waits for a stalled
// connection without limit, and ignores Retry-After; each costs hours on a slow line. Also refused:
// plain HTTP when TLS fails. Plain HTTP is used where it is configured, and never together with
// TLS.
//
// Blobs come from the registry only. The URLs of foreign layers are not fetched.
package upstream

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/mirror-appliance/appliance/internal/busy"
	"github.com/mirror-appliance/appliance/internal/pace"
	"github.com/mirror-appliance/appliance/internal/ping"
	"github.com/mirror-appliance/appliance/internal/retry"
)

// pingTime is how long a daemon remembers how a registry wants a login. A client whose image is in
// another repository than the last one waits for a round trip less.
const pingTime = time.Minute

// Options configures a Client.
type Options struct {
	// Registry is host[:port]. "docker.io" is Docker Hub.
	Registry   string
	PlainHTTP  bool // and never TLS
	Trust      Trust
	SkipVerify bool           // trusts any certificate (--tls-verify=false)
	Keychain   authn.Keychain // nil: anonymous
	AuthFile   string         // that Keychain reads, for hints
	UserAgent  string
	Retries    int // of a request, and resumptions of a blob without progress
	// Sleep waits between two attempts and returns early, with ctx's error, when ctx ends. nil is a
	// timer.
	Sleep func(ctx context.Context, d time.Duration) error
	// Serving returns a rate limit (429) of the upstream, or a longer wait, as an error: a client
	// waits for the answer.
	Serving bool
	// Idle runs wait, during which a request does nothing; nil calls wait. A caller that limits
	// concurrent requests need not count these.
	Idle func(ctx context.Context, wait func(context.Context) error) error
	// Busy slows all clients of a run down for a registry that has too many requests. nil: this one
	// has limits of its own. It is not used with Serving.
	Busy *busy.Limits
	// Proxy returns the proxy for a request, nil for none. nil: those of the environment.
	Proxy func(*http.Request) (*url.URL, error)
	// Gate is asked before each request, which its error stops; nil: none.
	Gate func() error
	// OnlyHeld asks an appliance for what it has, and not for what it would pull through.
	OnlyHeld bool
	// Log receives every retry; nil discards.
	Log *slog.Logger

	stall time.Duration // longest time without progress; 0 means pace.Patience
	now   func() time.Time
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
	now      func() time.Time
	words    words
}

// New returns a client. It reads the CA files and sends no request.
func New(o Options) (*Client, error) {
	if o.Registry == "" || strings.ContainsAny(o.Registry, "/@ ") {
		shown := o.Registry[strings.LastIndex(o.Registry, "@")+1:] // without a password
		return nil, fmt.Errorf("registry %q is not of the form host[:port]", shown)
	}
	var rules []name.Option
	if o.PlainHTTP {
		rules = append(rules, name.Insecure)
	}
	registry, err := name.NewRegistry(o.Registry, rules...)
	if err != nil {
		return nil, fmt.Errorf("registry %q: %w", o.Registry, err)
	}
	given := words{serving: o.Serving, authFile: o.AuthFile, plain: o.PlainHTTP, proxied: o.Proxy != nil}
	o = o.withDefaults()
	wire, err := newWire(o)
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", o.Registry, err)
	}
	retries := &retrier{attempts: o.Retries + 1, serving: o.Serving, sleep: o.Sleep, idle: o.Idle, log: o.Log.With("registry", registry.Name())}
	hosts := newHostGuard(registry.RegistryStr(), wire)
	var inner http.RoundTripper = &stallTransport{
		limit: o.stall,
		inner: &schemeGuard{plain: o.PlainHTTP, host: registry.RegistryStr(), userAgent: o.UserAgent, onlyHeld: o.OnlyHeld, gate: o.Gate, inner: hosts},
	}
	if !o.Serving { // above stallTransport, which waiting is not
		inner = o.Busy.Transport(inner, func(ctx context.Context, d time.Duration) error {
			return o.Idle(ctx, func(ctx context.Context) error { return o.Sleep(ctx, d) })
		})
	}
	var base http.RoundTripper = &retryTransport{retrier: retries, inner: inner}
	if o.Serving {
		base = ping.For(pingTime, o.now, registry.RegistryStr(), base)
	} else {
		base = ping.Once(registry.RegistryStr(), base)
	}
	return &Client{
		registry: registry,
		plain:    o.PlainHTTP,
		keychain: o.Keychain,
		retry:    retries,
		base:     base,
		hosts:    hosts,
		now:      o.now,
		words:    given,
	}, nil
}

func (o Options) withDefaults() Options {
	if o.Keychain == nil {
		o.Keychain = authn.NewMultiKeychain()
	}
	if o.stall <= 0 {
		o.stall = pace.Patience
	}
	if o.now == nil {
		o.now = time.Now
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
	if o.Proxy == nil {
		o.Proxy = http.ProxyFromEnvironment
	}
	if o.Gate == nil {
		o.Gate = func() error { return nil }
	}
	if o.Busy == nil {
		o.Busy = busy.New(nil, o.Log)
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
	// Checked below a host: NewRepository takes a first part without a dot for a namespace of
	// Docker Hub.
	if _, err := name.NewRepository("host.invalid/" + repo); err != nil {
		return name.Repository{}, fmt.Errorf("registry %s: %w", c.Registry(), err)
	}
	return c.registry.Repo(repo), nil
}
