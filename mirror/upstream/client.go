// Package upstream reads from a registry: manifests, blobs, referrers, and which manifest a reference names. Mirroring and
// pull-through read with it.
//
// Use New for one registry, Registries for any, and Keychain for the credentials that podman and docker keep. Names follow the
// rules of pkg/name (docker.io is index.docker.io, its one-word repositories are below library/), and authentication (ping,
// Basic, bearer tokens) is go-containerregistry's.
//
// Refused: pkg/v1/remote, which does the rest of the job as well. It fetches a layer that breaks half way from the start, a
// stalled connection holds it for ever, and it ignores Retry-After; each of the three loses an evening on a thin line. Also
// refused: plain HTTP when TLS fails. Plain HTTP is used where it is asked for, and then alone.
//
// Blob asks the registry only: foreign layers, whose manifest gives other addresses, are not fetched from there.
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

// Options are which registry is read, and how.
type Options struct {
	// Registry is host[:port]. "docker.io" is Docker Hub. A leading http:// asks for plain HTTP and is accepted for loopback
	// only; https:// changes nothing.
	Registry string
	// PlainHTTP reads over HTTP without TLS, and only so.
	PlainHTTP bool
	// CAFiles are PEM certificates trusted besides the system's.
	CAFiles []string
	// SkipVerify trusts any certificate, as --tls-verify=false asks for.
	SkipVerify bool
	// Keychain finds credentials; nil reads anonymously.
	Keychain authn.Keychain
	// UserAgent is sent with every request; "" sends "appliance".
	UserAgent string
	// Retries is how often a request is repeated, and how often in a row a broken blob is resumed. 0 means 5, less than 0
	// never.
	Retries int
	// Stall is how long a connection may make no progress. 0 means pace.Patience.
	Stall time.Duration
	// Sleep waits between two attempts and returns early, with ctx's error, when ctx ends. nil is a timer.
	Sleep func(ctx context.Context, d time.Duration) error
	// Serving is for a client that waits for the answer: a rate limit (429) of the upstream, or a wait longer than a back-off,
	// is returned to the client and not waited for.
	Serving bool
	// Idle runs wait, during which a request does nothing; nil just calls it. A caller that limits the requests under way can
	// leave these out.
	Idle func(ctx context.Context, wait func(context.Context) error) error
	// Log receives every retry; nil discards.
	Log *slog.Logger
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
	wire, err := newWire(o.CAFiles, o.SkipVerify, o.Stall)
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
			limit: o.Stall,
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
	if o.Stall <= 0 {
		o.Stall = pace.Patience
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

// Close closes idle connections. Reads under way go on.
func (c *Client) Close() { c.hosts.CloseIdleConnections() }

// Registry returns the host[:port] that is read, as pkg/name spells it.
func (c *Client) Registry() string { return c.registry.RegistryStr() }

// repository checks a name by the registry's rules.
func (c *Client) repository(repo string) (name.Repository, error) {
	for part := range strings.SplitSeq(repo, "/") {
		if part == "" || part == "." || part == ".." {
			return name.Repository{}, fmt.Errorf("registry %s: %q is not a repository name", c.Registry(), repo)
		}
	}
	// Checked below a name that is surely a host: NewRepository takes a first part without a dot for a namespace of Docker Hub.
	if _, err := name.NewRepository("host.invalid/" + repo); err != nil {
		return name.Repository{}, fmt.Errorf("registry %s: %w", c.Registry(), err)
	}
	return c.registry.Repo(repo), nil
}

// parseRegistry splits what a user wrote into host[:port] and whether it is read without TLS.
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
