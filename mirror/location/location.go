// Package location decides where a repository is read: registries.conf may name mirrors for it,
// move it to another place, or block it.
//
// Use Read once a run, and Open for each repository. The files are read by
// go.podman.io/image/v5/pkg/sysregistriesv2, so that podman, CRI-O and this program agree:
// a file that is named, or $CONTAINERS_REGISTRIES_CONF, or else the registries.conf and registries.conf.d of the user, of
// /etc/containers and of /usr/share/containers. That package keeps what it has read in a global;
// Read makes it read again.
//
// Refused: reading the files here. The merging of files, the wildcards and the rules which mirrors
// serve tags are several hundred lines that must never differ from podman's.
package location

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Source has the manifests and blobs of one repository.
type Source interface {
	Manifest(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error)
	Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error)
	BlobFrom(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, int64, error)
	Stat(ctx context.Context, d digest.Digest) (int64, error)
	Referrers(ctx context.Context, d digest.Digest) ([]ocispec.Descriptor, error)
	Tags(ctx context.Context) ([]string, error)
}

// Place is where a repository may be read.
type Place struct {
	Registry, Repository string
	Insecure             bool // any certificate is good, and plain HTTP
	Elsewhere            bool // at another registry than the one asked for, whose login is not for it
}

func (p Place) String() string { return p.Registry + "/" + p.Repository }

// Locations opens repositories where registries.conf says.
type Locations struct {
	files *types.SystemContext
	open  func(Place) (Source, error)
	log   *slog.Logger

	mu   sync.Mutex       // guards down
	down map[string]error // why a registry did not answer
}

// Read reads registries.conf: file, or without one where it is. open opens a repository at a place, and sends no request.
func Read(file string, open func(Place) (Source, error), log *slog.Logger) (*Locations, error) {
	files := &types.SystemContext{SystemRegistriesConfPath: file}
	sysregistriesv2.InvalidateCache()
	if _, err := sysregistriesv2.GetRegistries(files); err != nil {
		return nil, hint.New(fmt.Errorf("registries.conf: %w", err),
			"mend the file (man containers-registries.conf), or name another in CONTAINERS_REGISTRIES_CONF; it is one of "+sysregistriesv2.ConfigurationSourceDescription(files))
	}
	return &Locations{files: files, open: open, log: log, down: map[string]error{}}, nil
}

// Open returns a repository of a registry. It sends no request.
func (l *Locations) Open(registry, repository string) (Source, error) {
	here := Place{Registry: registry, Repository: repository}
	named, err := reference.ParseNormalizedNamed(here.String())
	if err != nil { // podman does not know such a name, so it is in no file
		return l.open(here)
	}
	found, err := sysregistriesv2.FindRegistry(l.files, named.Name())
	if err != nil {
		return nil, fmt.Errorf("registries.conf: %w", err)
	}
	if found == nil {
		return l.open(here)
	}
	r, err := l.repository(found, named)
	if err != nil {
		return nil, fmt.Errorf("registries.conf: %s: %w", named.Name(), err)
	}
	if len(r.content) == 1 && r.content[0].blocked != nil {
		return nil, r.content[0].blocked
	}
	return r, nil
}

// repository returns a repository with the endpoints that an entry of registries.conf gives it.
func (l *Locations) repository(found *sysregistriesv2.Registry, named reference.Named) (*repository, error) {
	r := &repository{name: named.Name(), all: l, answered: map[kind]*endpoint{}}
	tagged, err := reference.WithTag(named, "any")
	if err != nil {
		return nil, err
	}
	digested, err := reference.WithDigest(named, digest.FromString("any"))
	if err != nil {
		return nil, err
	}
	known := map[Place]*endpoint{}
	if r.byDigest, err = l.endpoints(known, found, digested); err != nil {
		return nil, err
	}
	if r.byTag, err = l.endpoints(known, found, tagged); err != nil {
		return nil, err
	}
	last := len(r.byDigest) - 1
	r.content = slices.Clone(r.byDigest[:last])
	for _, e := range r.byTag {
		if !slices.Contains(r.byDigest, e) {
			r.content = append(r.content, e)
		}
	}
	r.content = append(r.content, r.byDigest[last])
	return r, nil
}

// endpoints returns where a reference is read, the repository's own place last.
func (l *Locations) endpoints(known map[Place]*endpoint, found *sysregistriesv2.Registry,
	ref reference.Named) (all []*endpoint, err error) {
	sources, err := found.PullSourcesFromReference(ref)
	if err != nil {
		return nil, err
	}
	for _, s := range sources {
		place := Place{
			Registry: reference.Domain(s.Reference), Repository: reference.Path(s.Reference),
			Insecure:  s.Endpoint.Insecure,
			Elsewhere: reference.Domain(s.Reference) != reference.Domain(ref),
		}
		if known[place] == nil {
			if known[place], err = l.endpoint(place, s); err != nil {
				return nil, err
			}
		}
		all = append(all, known[place])
	}
	return all, nil
}

func (l *Locations) endpoint(place Place, s sysregistriesv2.PullSource) (*endpoint, error) {
	if s.Endpoint.NamespaceProxy != "" {
		return nil, errors.New("namespace-proxy is not supported yet")
	}
	rule, err := sysregistriesv2.FindRegistry(l.files, s.Reference.Name())
	if err != nil {
		return nil, err
	}
	e := &endpoint{place: place, open: sync.OnceValues(func() (Source, error) { return l.open(place) })}
	if rule != nil && rule.Blocked { // a mirror's place may be blocked too
		e.blocked = hint.New(fmt.Errorf("registry %s is blocked in registries.conf", rule.Prefix),
			"take the image out of the image set, or blocked out of one of "+sysregistriesv2.ConfigurationSourceDescription(l.files))
	}
	return e, nil
}

// lost keeps why a registry did not answer.
func (l *Locations) lost(registry string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down[registry] = err
}

// found forgets that a registry did not answer.
func (l *Locations) found(registry string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.down, registry)
}

// why returns why a registry did not answer, nil if it did or was not asked.
func (l *Locations) why(registry string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down[registry]
}
