package registry

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/oci"
	"github.com/mirror-appliance/appliance/registry/pull"
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
	return pull.Route{Prefix: u.Prefix, Source: client, Path: strings.Trim(at.Path, "/"), Freshness: u.Freshness}, nil
}
