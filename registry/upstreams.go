package registry

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/oci"
	"github.com/mirror-appliance/appliance/registry/pull"
	"github.com/mirror-appliance/appliance/registry/store"
)

// retries is how often a request to an upstream is repeated. A client waits for the answer and
// retries itself: it learns within seconds that the link is cut.
const retries = 2

// upstreams are what the daemon pulls through from, as the configuration has them at the moment.
type upstreams struct {
	puller *pull.Puller // nil without a daemon

	mu      sync.Mutex // guards the rest
	all     []config.Upstream
	sources []*source // of all, in its order; none without a daemon
}

// openUpstreams opens the upstreams. It sends no request: the registry starts, and serves its content,
// while they are down.
func (d *daemon) openUpstreams() error {
	d.upstreams.puller = pull.New(d.store, nil, pull.Options{Log: d.log, Canonical: canonical, Unchecked: oci.MarkUnchecked})
	d.onClose(d.upstreams.close)
	d.link.tell = d.holdUpstreams
	d.link.tell()
	return d.setUpstreams(d.cfg)
}

// setUpstreams puts the upstreams of a configuration in the place of those of before. After an error
// those stay. One with files that cannot be used is out of service, and keeps no other from being used.
func (d *daemon) setUpstreams(cfg *config.Config) error {
	all := cfg.Routes()
	var routes []pull.Route
	var sources []*source
	for _, u := range all {
		route, source, err := d.openUpstream(u)
		if err != nil {
			closeSources(sources)
			return fmt.Errorf("upstream %s: %w", u.Prefix, err)
		}
		routes, sources = append(routes, route), append(sources, source)
	}
	u := d.upstreams
	u.mu.Lock()
	defer u.mu.Unlock()
	u.puller.SetRoutes(routes)
	closeSources(u.sources) // whose requests under way go on
	u.all, u.sources = all, sources
	return nil
}

func closeSources(all []*source) {
	for _, s := range all {
		s.close()
	}
}

// hold ends all requests to upstreams, and makes none until it is called with nil.
func (u *upstreams) hold(reason error) {
	u.puller.Hold(reason)
	if reason == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	closeSources(u.sources)
}

func (u *upstreams) close() error {
	err := u.puller.Close()
	u.mu.Lock()
	defer u.mu.Unlock()
	closeSources(u.sources)
	return err
}

// configured returns the upstreams in force.
func (u *upstreams) configured() []config.Upstream {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.all
}

// inForce returns the sources in force.
func (u *upstreams) inForce() []*source {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.sources
}

// troubles returns what is wrong with upstreams.
func (u *upstreams) troubles() (all []error) {
	for _, s := range u.inForce() {
		if _, err := s.state(); err != nil {
			all = append(all, err)
		}
	}
	return all
}

func (d *daemon) openUpstream(u config.Upstream) (pull.Route, *source, error) {
	at, err := url.Parse(u.URL)
	if err != nil {
		return pull.Route{}, nil, err
	}
	source := &source{d: d, of: u, at: at, path: strings.Trim(at.Path, "/")}
	if _, err := source.client(); err != nil && !errors.As(err, new(*upstream.TrustError)) {
		return pull.Route{}, nil, err
	}
	if err := filesOf(u, at); err != nil {
		d.log.Error("an upstream is out of service: what is held is served, and nothing is fetched", "upstream", u.Prefix, "error", err, "hint", hint.Of(err))
	} else if err := expiredOf(u, at); err != nil {
		d.log.Warn("a certificate of an upstream has expired", "upstream", u.Prefix, "error", err, "hint", hint.Of(err))
	}
	route := pull.Route{Prefix: u.Prefix, Source: source, Path: source.path, Host: canonical(at.Host), TTL: u.Freshness,
		Via:     strings.Join([]string{at.Scheme, u.Proxy, u.CA, u.CertDir}, "\n"),
		Permits: permits(u), Concurrency: u.Concurrency}
	for _, text := range u.Platforms {
		p, err := v1.ParsePlatform(text)
		if err != nil {
			return pull.Route{}, nil, err
		}
		route.Platforms = append(route.Platforms, *p)
	}
	if u.Rate > 0 {
		route.Pace = throttle.New(int64(u.Rate))
	}
	return route, source, nil
}

// permits returns what refuses the repositories of an upstream that may not be fetched from.
func permits(u config.Upstream) func(path string) error {
	name := "upstreams in config.yaml, of " + u.Prefix
	switch {
	case u.Mode == config.ModeMirroredOnly:
		reason := fmt.Errorf("it is not held, and nothing is fetched (%s: mode is %s)", name, u.Mode)
		return func(string) error { return reason }
	case len(u.Allow)+len(u.Deny) == 0:
		return nil
	}
	return func(path string) error {
		switch {
		case image.MatchAny(u.Deny, path):
			return fmt.Errorf("%s is not fetched (%s: deny)", path, name)
		case len(u.Allow) > 0 && !image.MatchAny(u.Allow, path):
			return fmt.Errorf("%s is not fetched (%s: it is not in allow)", path, name)
		}
		return nil
	}
}

// readAs returns the options for reading an upstream.
func (d *daemon) readAs(u config.Upstream, at *url.URL) (upstream.Options, error) {
	o := upstream.Options{Registry: at.Host, PlainHTTP: at.Scheme == "http", Retries: retries,
		Serving: true, Idle: pull.Idle, Gate: d.link.Gate,
		Log: d.log, UserAgent: "appliance/" + d.version}
	if u.AuthFile != "" { // else none: a service has no home directory whose logins it might mean
		o.Keychain, o.AuthFile = upstream.Keychain(u.AuthFile), u.AuthFile
	}
	var err error
	o.Trust, err = trustOf(u, at)
	switch u.Proxy {
	case "":
	case config.ProxyNone:
		o.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	default:
		proxy, parseErr := url.Parse(u.Proxy)
		o.Proxy, err = http.ProxyURL(proxy), errors.Join(err, parseErr)
	}
	return o, err
}

// readSource returns the options for reading the source of a blob: those of the upstream with its
// registry, of several the one with the longest path above it. ok is false if there is none.
func (d *daemon) readSource(source store.Source) (best upstream.Options, ok bool, err error) {
	longest := -1
	for _, u := range d.upstreams.configured() {
		at, err := url.Parse(u.URL)
		if err != nil {
			return best, false, fmt.Errorf("upstream %s: %w", u.Prefix, err)
		}
		if canonical(at.Host) != canonical(source.Registry) {
			continue
		}
		below := 0
		if path := strings.Trim(at.Path, "/"); strings.HasPrefix(source.Repository, path+"/") {
			below = len(path)
		}
		if below > longest {
			if best, err = d.readAs(u, at); err != nil {
				return best, false, fmt.Errorf("upstream %s: %w", u.Prefix, err)
			}
			longest = below
		}
	}
	return best, longest >= 0, nil
}

// readOther returns the options for reading a registry that is not a configured upstream, without a login.
func (d *daemon) readOther(registry string) upstream.Options {
	return upstream.Options{Registry: registry, Retries: retries, Gate: d.link.Gate, Log: d.log, UserAgent: "appliance/" + d.version}
}

// canonical returns the one name of a registry: Docker Hub has several.
func canonical(host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ":443")
	if host == "registry-1.docker.io" {
		return name.DefaultRegistry
	}
	if registry, err := name.NewRegistry(host); err == nil {
		return registry.RegistryStr()
	}
	return host
}
