// Package sample generates the content of an upstream registry: OpenShift releases with an update
// graph, an operator catalog, Helm charts and plain images. `make run` and tests mirror it.
//
// Use [New] with the host:port that serves the content, and serve [Content.Handler] there. A fixed
// seed makes the digests the same on every run and machine for the same host. The host is part of
// the content because payloads, catalogs and charts refer to images by full reference, as the real
// ones do; plain images do not depend on it.
//
// Names and shapes are those of the public OpenShift content; the bytes are noise. Nothing is
// downloaded. Releases and their components are signed with keys of the sample.
//
// Refused: go-containerregistry's pkg/registry as the server. It accepts pushes, answers the
// open-ended Range of a resumed download with 416, and needs a client to fill it. A map behind
// http.ServeContent is smaller.
package sample

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// Repositories with several kinds of content, with the names of upstream.
const (
	ReleaseRepository   = "openshift-release-dev/ocp-release"
	ComponentRepository = "openshift-release-dev/ocp-v4.0-art-dev"
	CatalogRepository   = "redhat/redhat-operator-index"
	CatalogTag          = "v4.18"
	BaseRepository      = "ubi9/ubi" // of registry.access.redhat.com
)

// Paths beside /v2/.
const (
	GraphPath     = "/api/upgrades_info/v1/graph"
	GraphDataPath = "/api/upgrades_info/graph-data"
	ChartsPath    = "/charts/"
	OCICharts     = "samples/charts" // repositories of charts are below it
)

// Content is a generated upstream. It is constant after New and safe for concurrent use.
type Content struct {
	host         string
	repositories map[string]*repository
	releases     []Release
	files        map[string]file // by URL path
}

// A Manifest is a manifest's exact bytes and its descriptor.
type Manifest struct {
	MediaType string
	Digest    digest.Digest
	Body      []byte
}

// A Release is a release payload and its components.
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

// New generates the content for host, a host:port without scheme.
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

// Host returns the host:port in the references of the content.
func (c *Content) Host() string { return c.host }

// Repositories lists every repository, sorted.
func (c *Content) Repositories() []string {
	return slices.Sorted(maps.Keys(c.repositories))
}

// Tags lists the tags of a repository, sorted; none if it does not exist.
func (c *Content) Tags(repo string) []string {
	r, ok := c.repositories[repo]
	if !ok {
		return nil
	}
	return slices.Sorted(maps.Keys(r.tags))
}

// Manifest returns a manifest by tag or digest.
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

// Blob returns a blob of a repository. Other repositories do not have it. Do not change the
// bytes: they are shared.
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

// Release returns one release.
func (c *Content) Release(version, arch string) (Release, bool) {
	i := slices.IndexFunc(c.releases, func(r Release) bool { return r.Version == version && r.Arch == arch })
	if i < 0 {
		return Release{}, false
	}
	return c.releases[i], true
}

// created is the fixed build time of all content, for fixed digests.
func created() time.Time { return time.Date(2025, time.March, 4, 12, 0, 0, 0, time.UTC) }
