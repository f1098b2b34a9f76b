// Package sample generates the content of an upstream registry: OpenShift
// releases with an update graph, an operator catalog, Helm charts and plain
// images. It is what `make run` mirrors and what tests mirror.
//
// Use [New] with the host:port the content will be served on, and serve
// [Content.Handler] there. Everything is generated from a fixed seed, so the
// same host gives the same digests on every run and every machine. The host is
// part of the content because payloads, catalogs and charts name other images
// by full reference, as the real ones do; plain images do not depend on it.
//
// The names and shapes are those of the public OpenShift content, the bytes
// are noise: nothing here runs. Nothing is downloaded, and nothing is signed,
// since a signature that real clients accept needs a key that we do not have.
//
// go-containerregistry's pkg/registry was refused as the server: it accepts
// pushes, answers an open-ended Range (the one a resumed download sends) with
// 416, and would need a client to fill it. A map behind http.ServeContent is
// smaller than the adapter would be.
package sample

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// Repositories that hold more than one thing, named as upstream names them.
const (
	ReleaseRepository   = "openshift-release-dev/ocp-release"
	ComponentRepository = "openshift-release-dev/ocp-v4.0-art-dev"
	CatalogRepository   = "redhat/redhat-operator-index"
	CatalogTag          = "v4.18"
)

// Paths beside /v2/.
const (
	GraphPath     = "/api/upgrades_info/v1/graph"
	GraphDataPath = "/api/upgrades_info/graph-data"
	ChartsPath    = "/charts/"
)

// Content is a generated upstream. It does not change after New, so any number
// of goroutines may use it.
type Content struct {
	host         string
	repositories map[string]*repository
	releases     []Release
	files        map[string]file // by URL path
}

// A Manifest is a manifest's exact bytes with what a registry says about them.
type Manifest struct {
	MediaType string
	Digest    digest.Digest
	Body      []byte
}

// A Release is one release payload and what it consists of.
type Release struct {
	Version    string            // 4.18.2
	Arch       string            // amd64, arm64 or multi
	Tag        string            // in ReleaseRepository: 4.18.2-x86_64
	Digest     digest.Digest     // of the payload's manifest or index
	Payload    string            // full reference by digest, as in the update graph
	Components map[string]string // name → full reference by digest
}

type repository struct {
	manifests map[digest.Digest]Manifest
	blobs     map[digest.Digest][]byte
	tags      map[string]digest.Digest
}

type file struct {
	contentType string
	data        []byte
}

// New generates the content to be served on host, a host:port without scheme.
func New(host string) (*Content, error) {
	if _, _, err := net.SplitHostPort(host); err != nil {
		return nil, fmt.Errorf("sample content needs the host:port it is served on: %w", err)
	}
	c := &Content{host: host, repositories: map[string]*repository{}, files: map[string]file{}}
	b := &builder{content: c}
	b.plainImages()
	b.releases()
	b.graphData()
	b.catalog()
	b.charts()
	if b.err != nil {
		return nil, fmt.Errorf("generate sample content: %w", b.err)
	}
	return c, nil
}

// Host is the host:port that references in the content name.
func (c *Content) Host() string { return c.host }

// Repositories lists every repository, sorted.
func (c *Content) Repositories() []string {
	return slices.Sorted(maps.Keys(c.repositories))
}

// Tags lists the tags of a repository, sorted; none if there is no such repository.
func (c *Content) Tags(repo string) []string {
	r, ok := c.repositories[repo]
	if !ok {
		return nil
	}
	return slices.Sorted(maps.Keys(r.tags))
}

// Manifest finds a manifest by tag or digest.
func (c *Content) Manifest(repo, ref string) (Manifest, bool) {
	r, ok := c.repositories[repo]
	if !ok {
		return Manifest{}, false
	}
	d, ok := r.tags[ref]
	if !ok {
		d = digest.Digest(ref)
	}
	m, ok := r.manifests[d]
	return m, ok
}

// Blob finds a blob, in the repositories that use it and in no other.
// The bytes are shared: do not change them.
func (c *Content) Blob(repo string, d digest.Digest) ([]byte, bool) {
	r, ok := c.repositories[repo]
	if !ok {
		return nil, false
	}
	data, ok := r.blobs[d]
	return data, ok
}

// Releases lists the releases, by version, then architecture.
func (c *Content) Releases() []Release { return slices.Clone(c.releases) }

// Release finds one release.
func (c *Content) Release(version, arch string) (Release, bool) {
	i := slices.IndexFunc(c.releases, func(r Release) bool { return r.Version == version && r.Arch == arch })
	if i < 0 {
		return Release{}, false
	}
	return c.releases[i], true
}

// created is when everything here was "built": a fixed time, for fixed digests.
func created() time.Time { return time.Date(2025, time.March, 4, 12, 0, 0, 0, time.UTC) }
