// Package pull serves repositories of upstream registries: content that the store lacks is fetched,
// stored and served while it arrives.
//
// New takes the store and the routes; the /v2 API asks the Puller for what the store alone
// cannot answer. Stored content is served even if the upstream is down. A digest is served
// without a check. A tag is checked when its TTL is over, and served unchecked if the upstream
// does not answer in time. An upstream that does not answer at all is left alone for a while
// (circuit.go).
//
// A download belongs to the Puller, not to the client that caused it. All clients that want the
// blob read the one file that grows. When the last of them leaves, the download continues for a
// limited time: clients that give up mostly come back, and upstreams meter pulls. Close ends it.
//
// That the upstream lacks something is remembered for absentTime only, so that a hundred nodes that ask
// for an image that does not exist cost it one request. What is held is looked up before.
//
// Refused: a caching reverse proxy, which stores content by request and so can neither
// share a layer nor be collected; and remembering "not found" of images for the TTL, which makes a
// mirror deny an image that was pushed meanwhile.
package pull

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store"
)

// Source is a registry to pull from. errors.Is(err, fs.ErrNotExist) reports that the
// content does not exist there.
type Source interface {
	// Resolve returns the descriptor of a tag or digest.
	Resolve(ctx context.Context, repo, ref string) (ocispec.Descriptor, error)
	// Manifest fetches the manifest of a tag or digest.
	Manifest(ctx context.Context, repo, ref string) (ocispec.Descriptor, []byte, error)
	// Referrers lists the referrers of a manifest, none if it does not exist.
	Referrers(ctx context.Context, repo string, subject digest.Digest) ([]ocispec.Descriptor, error)
	// Tags lists the tags of a repository.
	Tags(ctx context.Context, repo string) ([]string, error)
	// Stat returns the size of a blob, -1 if it is unknown, without fetching it.
	Stat(ctx context.Context, repo string, d digest.Digest) (size int64, err error)
	// BlobFrom opens a blob at an offset; its size is -1 if it is unknown. The store verifies the
	// content.
	BlobFrom(ctx context.Context, repo string, d digest.Digest, offset int64) (io.ReadCloser, int64, error)
}

// A Route maps the repositories under Prefix to those under Path at Source.
type Route struct {
	Prefix string // first components of a repository name; "" is all repositories
	Source Source
	Path   string        // prefix of the repository name at Source
	Host   string        // name of the registry, as Options.Canonical returns it; "": none
	Via    string        // what else decides whether Host is reached: a proxy, CAs
	TTL    time.Duration // how long a tag is served without a check; 0 checks always
	// Permits returns the error with which a repository of the source is refused; nil permits all.
	// What is held of it is served.
	Permits     func(path string) error
	Concurrency int           // as in Options, for this route; 0: that
	Pace        throttle.Pace // of the bytes of all blobs; nil: no bound
	Platforms   []v1.Platform // that Fetch fetches of an index; none: all
}

// Options configures a Puller. The zero value is valid.
type Options struct {
	Log       *slog.Logger             // nil discards
	Now       func() time.Time         // nil is time.Now
	Canonical func(host string) string // returns the one name of a registry; nil: as given
	// Unchecked is called with the context of a request that is answered with what is stored, since the
	// upstream could not be asked. nil: nothing is.
	Unchecked func(ctx context.Context)
	// Concurrency limits the blobs fetched under one route at a time, and likewise the manifests. A
	// user has half of them. 0 is 32.
	Concurrency int
}

// A Puller pulls through. It is safe for concurrent use.
type Puller struct {
	*lifetime
	store     *store.Store
	options   Options
	routes    atomic.Pointer[[]route] // the longest prefix first
	held      atomic.Pointer[error]   // with which whatever is not held is refused; nil: it is fetched
	name      func(host string) string
	calls     *calls
	downloads *downloads
	manifests *manifests
}

// New returns a Puller. Close it before the store.
func New(s *store.Store, routes []Route, o Options) *Puller {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Canonical == nil {
		o.Canonical = func(host string) string { return host }
	}
	if o.Unchecked == nil {
		o.Unchecked = func(context.Context) {}
	}
	if o.Concurrency <= 0 {
		o.Concurrency = 32
	}
	l := &lifetime{}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	c := &calls{lifetime: l, limit: 3 * time.Minute, byKey: map[string]*call{}}
	p := &Puller{
		lifetime: l, store: s, options: o, name: o.Canonical, calls: c,
		downloads: &downloads{lifetime: l, store: s, log: o.Log, linger: 15 * time.Minute,
			byKey: map[downloadKey]*download{}},
		manifests: &manifests{
			store: s, calls: c, patience: 10 * time.Second, brief: time.Second / 4, checks: newChecks(s, o),
			resolved: newCache[digest.Digest](o.Now), lists: newCache[[]ocispec.Descriptor](o.Now),
			tags: newCache[[]string](o.Now),
		},
	}
	p.SetRoutes(routes)
	return p
}

// SetRoutes changes the routes. Downloads under way continue. What was remembered of the upstreams'
// answers is forgotten.
func (p *Puller) SetRoutes(routes []Route) {
	all := p.sorted(routes)
	p.routes.Store(&all)
	p.manifests.forget()
	p.calls.forget()
}

// Hold ends all requests to upstreams and makes none: what is not held is refused with reason, and
// tags are served as they are held. nil ends that.
func (p *Puller) Hold(reason error) {
	if reason == nil {
		p.held.Store(nil)
		p.manifests.forget()
		for _, r := range *p.routes.Load() {
			r.peer.forget()
		}
		return
	}
	p.held.Store(&reason)
	p.interrupt()
}

// A route has places of its own, so that a slow upstream does not delay the others.
type route struct {
	Route
	peer      *peer
	asks      *places // for manifests and other small requests
	transfers *places // for blobs
}

// sorted returns routes, that with the longest prefix first.
func (p *Puller) sorted(given []Route) []route {
	routes, peers := make([]route, len(given)), p.peersOf(given)
	for i, r := range given {
		r.Prefix, r.Path = strings.Trim(r.Prefix, "/"), strings.Trim(r.Path, "/")
		limit := cmp.Or(r.Concurrency, p.options.Concurrency)
		routes[i] = route{Route: r, peer: peers[i], asks: newPlaces(limit), transfers: newPlaces(limit)}
	}
	slices.SortStableFunc(routes, func(a, b route) int { return len(b.Prefix) - len(a.Prefix) })
	return routes
}

// Serves reports whether a repository is pulled through.
func (p *Puller) Serves(repo string) bool {
	_, err := p.origin(repo)
	return err == nil
}

// Manifest returns the manifest of ref, a tag or a digest. It fetches and stores one that is not
// stored or whose TTL is over. store.ErrNotFound: neither the store nor the upstream has it. Other
// errors: the upstream could not be asked or its answer not be stored.
func (p *Puller) Manifest(ctx context.Context, repo, ref string) (store.Manifest, error) {
	o, err := p.origin(repo)
	if err != nil {
		return store.Manifest{}, err
	}
	if d, err := digest.Parse(ref); err == nil {
		return p.manifests.byDigest(ctx, o, d)
	}
	return p.manifests.byTag(ctx, o, ref)
}

// Resolve returns the descriptor of ref, a tag or a digest, as Manifest does but without a fetch.
// containerd resolves a tag and then fetches its digest: that fetch moves the tag.
func (p *Puller) Resolve(ctx context.Context, repo, ref string) (ocispec.Descriptor, error) {
	o, err := p.origin(repo)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if d, err := digest.Parse(ref); err == nil {
		return p.manifests.resolveDigest(ctx, o, d)
	}
	return p.manifests.resolveTag(ctx, o, ref)
}

// Referrers lists the upstream's referrers of subject, asked for at most once in a TTL. While the
// upstream does not answer it returns the last list, or none. Errors, for a subject that is not
// stored, are those of Manifest.
func (p *Puller) Referrers(ctx context.Context, repo string, subject digest.Digest) ([]ocispec.Descriptor, error) {
	o, err := p.origin(repo)
	if err != nil {
		return nil, err
	}
	return p.manifests.referrers(ctx, o, subject)
}

// Tags lists the upstream's tags of a repository, asked for at most once in a TTL. held reports that the
// repository has tags here: then the upstream has a limited time. Errors are those of Manifest.
func (p *Puller) Tags(ctx context.Context, repo string, held bool) ([]string, error) {
	o, err := p.origin(repo)
	if err != nil {
		return nil, err
	}
	return p.manifests.tagList(ctx, o, held)
}

// An origin is the upstream of a repository.
type origin struct {
	route
	repo     string // local name
	upstream string // name at the upstream
	held     bool   // nothing is fetched
	cut      bool   // since Hold
}

// down returns the error of a request that would not be sent now, since its upstream does not answer.
func (o origin) down() error {
	if o.held {
		return nil // its own error is the answer
	}
	return o.peer.refuses()
}

// origin returns a store.NotFoundError for a repository that is not pulled through.
func (p *Puller) origin(repo string) (origin, error) {
	for _, r := range *p.routes.Load() {
		rest, ok := strings.CutPrefix(repo, r.Prefix)
		if !ok || r.Prefix != "" && rest != "" && rest[0] != '/' {
			continue
		}
		upstream := path.Join(r.Path, strings.TrimPrefix(rest, "/"))
		if upstream != "" {
			return p.permitted(origin{route: r, repo: repo, upstream: upstream}), nil
		}
	}
	return origin{}, &store.NotFoundError{Kind: "repository", Name: repo}
}

// permitted returns an origin whose source refuses everything if nothing may be fetched from it.
func (p *Puller) permitted(o origin) origin {
	var refused error
	if reason := p.held.Load(); reason != nil {
		refused, o.cut = *reason, true
	} else if o.Permits != nil {
		refused = o.Permits(o.upstream)
	}
	if refused != nil {
		o.Source, o.held = refusing{&refusedError{refused, o.cut}}, true
		return o
	}
	o.Source = watched{o.Source, o.peer}
	return o
}

// absentTime is how long an upstream is not asked again for what it lacks. Attachments have the TTL.
const absentTime = 10 * time.Second

// lacks returns the error of what the upstream lacked a moment ago. Ask the store before.
func (o origin) lacks(kind, name string) error {
	if _, current, _ := o.peer.absent.get(o.repo + " " + kind + " " + name); current && !o.held {
		return &store.NotFoundError{Kind: kind, Name: name}
	}
	return nil
}

// failed returns the error of a pull. "Not found" becomes the store's error, which the API knows, and
// is remembered.
func (o origin) failed(kind, name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		o.peer.absent.put(o.repo+" "+kind+" "+name, struct{}{}, absentTime, 0)
		return &store.NotFoundError{Kind: kind, Name: name}
	}
	return &pullError{repo: o.repo, name: name, err: err}
}

// A pullError is a pull that failed.
type pullError struct {
	repo, name string
	err        error
}

func (e *pullError) Error() string {
	return fmt.Sprintf("pull %s of %s through: %v", e.name, e.repo, e.err)
}
func (e *pullError) Unwrap() error { return e.err }

// Kind is as in package upstream.
func (e *pullError) Kind() string {
	var inner interface{ Kind() string }
	switch {
	case errors.As(e.err, &inner):
		return inner.Kind()
	case errors.As(e.err, new(*store.InvalidError)), errors.As(e.err, new(*store.DigestError)), errors.Is(e.err, errTooLong):
		return "nonsense"
	case errors.Is(e.err, io.ErrUnexpectedEOF):
		return "broken"
	}
	return "other"
}

// A storeError is a failure of the store, not of the upstream.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

// unstored returns the error of a manifest that could not be stored: the upstream's if the manifest
// is invalid, or a storeError.
func (o origin) unstored(ref string, err error) error {
	var (
		invalid *store.InvalidError
		wrong   *store.DigestError
	)
	if errors.As(err, &invalid) || errors.As(err, &wrong) {
		return o.failed("manifest", ref, err)
	}
	return &storeError{err: o.failed("manifest", ref, err)}
}

// Locate returns the local repository that pulls through from repo at host.
func (p *Puller) Locate(host, repo string) (local string, ok bool) {
	host = p.name(host)
	if o, err := p.origin(repo); err == nil && o.Host == host && o.Prefix != "" {
		return repo, true // has its local name already
	}
	below := -1
	for _, r := range *p.routes.Load() {
		rest, found := repo, true
		if r.Path != "" {
			rest, found = strings.CutPrefix(repo, r.Path+"/")
		}
		if r.Host == "" || r.Host != host || !found || len(r.Path) <= below {
			continue
		}
		below, local = len(r.Path), path.Join(r.Prefix, rest)
	}
	if o, err := p.origin(local); below < 0 || err != nil || o.Host != host || o.upstream != repo {
		return p.named(host, repo) // another route serves this name
	}
	return local, true
}

// named returns the local repository below the name of a registry that is a prefix, whatever its
// upstream is: another appliance, say, that pulls through from there.
func (p *Puller) named(host, repo string) (local string, ok bool) {
	for _, r := range *p.routes.Load() {
		first, _, _ := strings.Cut(r.Prefix, "/")
		if !strings.Contains(first, ".") || p.name(first) != host {
			continue
		}
		local := first + "/" + repo
		if o, err := p.origin(local); err == nil && strings.HasPrefix(o.Prefix+"/", first+"/") {
			return local, true
		}
	}
	return "", false
}
