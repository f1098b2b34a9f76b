package registry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/oci"
	"github.com/mirror-appliance/appliance/registry/pull"
	"github.com/mirror-appliance/appliance/registry/store"
)

// retries is how often a request to an upstream is repeated. A client waits for the answer and
// retries itself: it learns within seconds that the link is cut.
const retries = 2

// openUpstreams returns the Puller, nil without upstreams. It sends no request: the registry
// starts, and serves its content, while upstreams are down.
func (d *daemon) openUpstreams() (oci.Upstream, error) {
	if len(d.cfg.Upstreams) == 0 {
		return nil, nil
	}
	var routes []pull.Route
	for _, u := range d.cfg.Upstreams {
		route, err := d.openUpstream(u)
		if err != nil {
			return nil, fmt.Errorf("upstream %s: %w", u.Prefix, err)
		}
		routes = append(routes, route)
	}
	p := pull.New(d.store, routes, pull.Options{Log: d.log, Canonical: canonical})
	d.onClose(p.Close)
	return p, nil
}

func (d *daemon) openUpstream(u config.Upstream) (pull.Route, error) {
	at, err := url.Parse(u.URL)
	if err != nil {
		return pull.Route{}, err
	}
	client, err := upstream.New(d.readAs(u, at))
	if err != nil {
		return pull.Route{}, err
	}
	d.onClose(func() error { client.Close(); return nil })
	if err := d.checkLogin(u, at); err != nil {
		d.log.Error("an upstream's logins cannot be used", "upstream", u.Prefix, "error", err, "hint", hint.Of(err))
	}
	path := strings.Trim(at.Path, "/")
	source := &recording{Client: client, store: d.store, log: d.log, prefix: u.Prefix, path: path}
	return pull.Route{Prefix: u.Prefix, Source: source, Path: path, Host: canonical(at.Host), TTL: u.Freshness}, nil
}

// checkLogin returns an error if the login for an upstream cannot be read.
func (d *daemon) checkLogin(u config.Upstream, at *url.URL) error {
	logins := d.readAs(u, at).Keychain
	if logins == nil {
		return nil
	}
	registry, err := name.NewRegistry(at.Host)
	if err != nil {
		return nil // reported by each request
	}
	_, err = logins.Resolve(registry)
	return err
}

// checkLogins is checkLogin for all upstreams.
func (d *daemon) checkLogins() (all []error) {
	for _, u := range d.cfg.Upstreams {
		at, err := url.Parse(u.URL)
		if err == nil {
			err = d.checkLogin(u, at)
		}
		if err != nil {
			all = append(all, fmt.Errorf("upstream %s: %w", u.Prefix, err))
		}
	}
	return all
}

// readAs returns the options for reading an upstream.
func (d *daemon) readAs(u config.Upstream, at *url.URL) upstream.Options {
	o := upstream.Options{Registry: at.Host, PlainHTTP: at.Scheme == "http", Retries: retries,
		Serving: true, Idle: pull.Idle,
		Log: d.log, UserAgent: "appliance/" + d.version}
	if u.AuthFile != "" { // else none: a service has no home directory whose logins it might mean
		o.Keychain = upstream.Keychain(u.AuthFile)
	}
	if u.CA != "" {
		o.Trust.CAs = []string{u.CA}
	}
	return o
}

// readSource returns the options for reading the source of a blob: those of the upstream with its
// registry, of several the one with the longest path above it. ok is false if there is none.
func (d *daemon) readSource(source store.Source) (best upstream.Options, ok bool, err error) {
	longest := -1
	for _, u := range d.cfg.Upstreams {
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
			best, longest = d.readAs(u, at), below
		}
	}
	return best, longest >= 0, nil
}

// readOther returns the options for reading a registry that is not a configured upstream, without a login.
func (d *daemon) readOther(registry string) upstream.Options {
	return upstream.Options{Registry: registry, Retries: retries, Log: d.log, UserAgent: "appliance/" + d.version}
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

// recording records the sources of blobs, for the repair of damage.
type recording struct {
	*upstream.Client
	store        *store.Store
	log          *slog.Logger
	prefix, path string
}

// BlobFrom opens a blob, see upstream.Client.
func (r *recording) BlobFrom(ctx context.Context, repo string, d digest.Digest, offset int64) (
	io.ReadCloser, int64, error) {
	body, size, err := r.Client.BlobFrom(ctx, repo, d, offset)
	if err != nil {
		return nil, 0, err
	}
	local := r.prefix + "/" + strings.TrimPrefix(strings.TrimPrefix(repo, r.path), "/")
	if err := r.store.Blobs.RecordSource(ctx, local, r.Registry(), repo); err != nil {
		r.log.Warn("could not record where a blob comes from", "repository", local, "error", err)
	}
	return body, size, nil
}
