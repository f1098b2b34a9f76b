package registry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/oci"
	"github.com/mirror-appliance/appliance/registry/pull"
	"github.com/mirror-appliance/appliance/registry/store"
)

// openUpstreams makes what pulls through, or nil if the configuration names no upstream. Nothing is asked of an
// upstream yet: the registry starts, and serves what it holds, while they are down.
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
	p := pull.New(d.store, routes, pull.Options{Log: d.log})
	d.onClose(p.Close)
	return p, nil
}

func (d *daemon) openUpstream(u config.Upstream) (pull.Route, error) {
	at, err := url.Parse(u.URL)
	if err != nil {
		return pull.Route{}, err
	}
	var keys authn.Keychain // none: a service has no home directory whose logins it might mean
	if u.AuthFile != "" {
		keys = upstream.Keychain(u.AuthFile)
	}
	var trusted []string
	if u.CA != "" {
		trusted = []string{u.CA}
	}
	client, err := upstream.New(upstream.Options{
		Registry: at.Host, PlainHTTP: at.Scheme == "http", CAFiles: trusted, Keychain: keys, Log: d.log,
		UserAgent: "appliance/" + d.version,
	})
	if err != nil {
		return pull.Route{}, err
	}
	d.onClose(func() error { client.Close(); return nil })
	if d.clients == nil {
		d.clients = map[string]*upstream.Client{}
	}
	d.clients[client.Registry()] = client
	path := strings.Trim(at.Path, "/")
	source := &recording{Client: client, store: d.store, log: d.log, prefix: u.Prefix, path: path}
	return pull.Route{Prefix: u.Prefix, Source: source, Path: path, Freshness: u.Freshness}, nil
}

// recording remembers where blobs come from, for a scrub that finds one damaged later.
type recording struct {
	*upstream.Client
	store        *store.Store
	log          *slog.Logger
	prefix, path string
}

// Blob opens a blob, see upstream.Client.
func (r *recording) Blob(ctx context.Context, repo string, d digest.Digest) (io.ReadCloser, int64, error) {
	body, size, err := r.Client.Blob(ctx, repo, d)
	if err != nil {
		return nil, 0, err
	}
	local := r.prefix + "/" + strings.TrimPrefix(strings.TrimPrefix(repo, r.path), "/")
	if err := r.store.RecordSource(ctx, local, r.Registry(), repo); err != nil {
		r.log.Warn("could not record where a blob comes from", "repository", local, "error", err)
	}
	return body, size, nil
}
