// Package node looks at a registry as a node of a cluster does, before there is one: by its name, with
// the certificates, the login and the mirrors that nodes are given, and nothing else.
//
// Use ReadInstallConfig or ReadRegistries for what nodes are given, and Check, which tells a finding for
// each thing that it looks at. It reads manifests and asks for layers without fetching them, but for the
// layers of a payload down to its list of images, and of its boot image down to the ISO.
//
// Refused: the container library of nodes, which hides which mirror has answered, and why the one before
// did not.
package node

import (
	"context"
	"slices"
	"strings"
	"sync"

	"go.podman.io/image/v5/docker/reference"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/mirror/upstream"
)

// Facts are what nodes are given.
type Facts struct {
	Sources cluster.Sources
	Bundle  []byte // CAs in PEM form, besides those of the system
	// Policy is additionalTrustBundlePolicy; "" is Proxyonly in an install-config.yaml.
	Policy string
	// InstallConfig reports that the facts are those of an install-config.yaml.
	InstallConfig bool
	// Others are findings that are told first.
	Others []finding.Finding
	// Through are the registries and paths below which what is not held comes from an upstream.
	Through []string
	Secret  []byte // pull secret; nil: none
	// Registries are looked at besides those that the other fields name.
	Registries []string
	// Releases are pull specs, at the registry or as a source names them; none: those that the tags
	// of the mirrors name.
	Releases []string
	// Machine is the architecture of the hosts, as in names of releases; "": that of the release, or
	// each that is there.
	Machine string
}

// Options are what Check tells its caller.
type Options struct {
	UserAgent string
	Tell      func(finding.Finding)
	Progress  func(done, images int) // of the images of a release
}

// Check looks at everything. The error is that of ctx.
func Check(ctx context.Context, f Facts, o Options) error {
	c := &checker{Facts: f, options: o, clients: map[string]*upstream.Client{}, heads: map[string]error{}}
	defer c.close()
	for _, other := range f.Others {
		o.Tell(other)
	}
	for _, registry := range f.Mirrors() {
		c.registry(ctx, registry)
	}
	releases := f.Releases
	if len(releases) == 0 {
		releases = c.heldReleases(ctx)
	}
	for _, spec := range releases {
		if ctx.Err() == nil {
			c.release(ctx, spec)
		}
	}
	return ctx.Err()
}

// Mirrors returns the registries that nodes ask, each once.
func (f Facts) Mirrors() (all []string) {
	add := func(name string) {
		host, _, _ := strings.Cut(name, "/")
		if !slices.Contains(all, host) {
			all = append(all, host)
		}
	}
	for _, registry := range f.Registries {
		add(registry)
	}
	for _, s := range f.Sources {
		for _, m := range s.Mirrors {
			add(m)
		}
	}
	for _, spec := range f.Releases {
		if _, mirrored := f.Sources.Of(spec); !mirrored {
			add(spec)
		}
	}
	return all
}

// place is a repository of a registry.
type place struct{ registry, repository string }

func (p place) String() string { return p.registry + "/" + p.repository }

// places returns where an image is read, in order. mirrored reports that an entry is about it.
func (f Facts) places(image reference.Named) (all []place, source cluster.Source, mirrored bool) {
	source, mirrored = f.Sources.Of(image.Name())
	names := f.Sources.Places(image.Name())
	if !mirrored {
		// An image that a mirror names is looked at where the mirrors beside it have it.
		if names = f.Sources.Beside(image.Name()); len(names) == 0 {
			names = []string{image.Name()}
		}
	}
	for _, name := range names {
		host, path, _ := strings.Cut(name, "/")
		all = append(all, place{host, path})
	}
	return all, source, mirrored
}

// checker is one call of Check.
type checker struct {
	Facts
	options Options
	down    []string // registries that cannot be asked, which was told

	mu      sync.Mutex // guards the rest
	clients map[string]*upstream.Client
	heads   map[string]error // of layers that were asked for, by place and digest
}

func (c *checker) tell(level finding.Level, check, subject, text, hint string) {
	c.options.Tell(finding.Finding{Check: check, Subject: subject, Level: level, Text: text, Hint: hint})
}

// client returns the client of a registry.
func (c *checker) client(registry string) (*upstream.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if client, ok := c.clients[registry]; ok {
		return client, nil
	}
	o := upstream.Options{Registry: registry, Trust: upstream.Trust{Bundle: c.Bundle}, Retries: 1, UserAgent: c.options.UserAgent}
	if c.Secret != nil {
		o.Keychain = upstream.Logins(c.Secret)
	}
	client, err := upstream.New(o)
	if err == nil {
		c.clients[registry] = client
	}
	return client, err
}

func (c *checker) close() {
	for _, client := range c.clients {
		client.Close()
	}
}
