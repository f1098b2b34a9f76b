// Package pull serves repositories of upstream registries as if they were
// held: what is not held is fetched, stored and handed out while it arrives.
//
// New takes the store and the routes; the /v2 API asks the Puller for what the
// store alone cannot answer. What is held is served whatever the upstream's
// state: a digest without asking, a tag after asking no more often than its
// freshness demands, and without an answer when none comes in time.
//
// A fetch belongs to the Puller and not to the client that caused it. All who
// want the same blob read the one file that it grows in. When the last of them
// goes away it goes on, for a bounded time: clients that give up mostly come
// back, pulling is metered upstream, and bytes that were waited for once should
// not be waited for twice. Close ends it.
//
// Refused: a reverse proxy with a cache, which holds content under the names of
// requests and so can neither share a layer nor be collected; and caching "not
// found", which is how a mirror comes to deny an image that exists.
package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Source is a registry that is pulled from. An error for which
// errors.Is(err, fs.ErrNotExist) holds says that it has no such thing.
type Source interface {
	// Resolve says what a tag or digest stands for.
	Resolve(ctx context.Context, repo, ref string) (ocispec.Descriptor, error)
	// Manifest fetches what a tag or digest stands for.
	Manifest(ctx context.Context, repo, ref string) (ocispec.Descriptor, []byte, error)
	// Referrers lists what refers to a manifest; nothing for what it does not have.
	Referrers(ctx context.Context, repo string, subject digest.Digest) ([]ocispec.Descriptor, error)
	// Stat asks for the size of a blob, -1 if it is not known, without fetching it.
	Stat(ctx context.Context, repo string, d digest.Digest) (size int64, err error)
	// UnverifiedBlob opens a blob; the size is -1 if it is not known. The store verifies what is read.
	UnverifiedBlob(ctx context.Context, repo string, d digest.Digest) (io.ReadCloser, int64, error)
}

// A Route maps the repositories under Prefix to those under Path at Source.
type Route struct {
	Prefix    string        // first components of a repository's name; "" is all of them
	Source    Source        // where they are fetched
	Path      string        // put before the rest of the name there
	Host      string        // the registry's name, as Options.Canonical has it; "": it has none
	Freshness time.Duration // how long a tag is served without asking again; 0 always asks
}

// Options of a Puller; the zero value is fine.
type Options struct {
	Log         *slog.Logger             // nil discards
	Now         func() time.Time         // nil is time.Now
	Canonical   func(host string) string // gives a registry's one name; nil: each has one
	Concurrency int                      // blobs fetched under one route at the same time, and likewise manifests, half of them for one user; 0 is 32
}

// A Puller pulls through. It is safe for concurrent use.
type Puller struct {
	store  *store.Store
	routes []route // the longest prefix first
	log    *slog.Logger
	now    func() time.Time
	name   func(host string) string

	patience time.Duration // how long a client waits for a held tag to be checked
	linger   time.Duration // how long a fetch goes on with nobody reading
	askLimit time.Duration // how long one request for a manifest may take, retries included

	ctx     context.Context // of all fetches
	cancel  context.CancelFunc
	fetches sync.WaitGroup

	mu       sync.Mutex // guards what follows, and the readers of flights
	closed   bool
	calls    map[string]*call
	flights  map[flightKey]*flight
	outages  map[string]time.Time          // when to ask again about the tags of a repository
	resolved *memory[digest.Digest]        // what a tag was last said to stand for
	absences *memory[struct{}]             // attachments that there are not
	lists    *memory[[]ocispec.Descriptor] // referrers
}

var errClosed = errors.New("pull-through is shutting down")

// New makes a Puller. Close it before the store.
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
	if o.Concurrency <= 0 {
		o.Concurrency = 32
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Puller{
		store: s, routes: sorted(routes, o.Concurrency), log: o.Log, now: o.Now, name: o.Canonical,
		patience: 10 * time.Second, linger: 15 * time.Minute, askLimit: 3 * time.Minute,
		ctx: ctx, cancel: cancel,
		calls: map[string]*call{}, flights: map[flightKey]*flight{}, outages: map[string]time.Time{},
		resolved: newMemory[digest.Digest](o.Now), absences: newMemory[struct{}](o.Now), lists: newMemory[[]ocispec.Descriptor](o.Now),
	}
}

// Close ends all fetches and waits until they have ended. Their readers fail.
func (p *Puller) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.fetches.Wait()
	return nil
}

// A route has places of its own, so that an upstream that hardly answers does not hold up the others.
type route struct {
	Route
	asks      *places // for manifests, and what else is small
	transfers *places // for blobs
}

func sorted(given []Route, concurrency int) []route {
	routes := make([]route, len(given))
	for i, r := range given {
		r.Prefix, r.Path = strings.Trim(r.Prefix, "/"), strings.Trim(r.Path, "/")
		routes[i] = route{Route: r, asks: newPlaces(concurrency), transfers: newPlaces(concurrency)}
	}
	slices.SortStableFunc(routes, func(a, b route) int { return len(b.Prefix) - len(a.Prefix) })
	return routes
}

// Serves says whether a repository is pulled through.
func (p *Puller) Serves(repo string) bool {
	_, ok := p.origin(repo)
	return ok
}

// An origin is where a repository comes from.
type origin struct {
	route
	repo     string // here
	upstream string // its name there
}

func (p *Puller) origin(repo string) (origin, bool) {
	for _, r := range p.routes {
		rest, ok := strings.CutPrefix(repo, r.Prefix)
		if !ok || r.Prefix != "" && rest != "" && rest[0] != '/' {
			continue
		}
		upstream := path.Join(r.Path, strings.TrimPrefix(rest, "/"))
		if upstream != "" {
			return origin{route: r, repo: repo, upstream: upstream}, true
		}
	}
	return origin{}, false
}

// failed says what could not be pulled; "not found" is the store's kind of it,
// so that the API has one to look for.
func (o origin) failed(kind, name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &store.NotFoundError{Kind: kind, Name: name}
	}
	return fmt.Errorf("pull %s of %s through: %w", name, o.repo, err)
}

// A storeError is a failure to store what the upstream gave, which is not the upstream's.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

// unstored says why a manifest could not be stored: because of what it is, or of the store.
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

// Locate returns the repository here that is pulled through from repo at host.
func (p *Puller) Locate(host, repo string) (local string, ok bool) {
	host = p.name(host)
	if o, ok := p.origin(repo); ok && o.Host == host && o.Prefix != "" {
		return repo, true // as it is named here already
	}
	below := -1
	for _, r := range p.routes {
		rest, found := repo, true
		if r.Path != "" {
			rest, found = strings.CutPrefix(repo, r.Path+"/")
		}
		if r.Host == "" || r.Host != host || !found || len(r.Path) <= below {
			continue
		}
		below, local = len(r.Path), path.Join(r.Prefix, rest)
	}
	if o, ok := p.origin(local); below < 0 || !ok || o.Host != host || o.upstream != repo {
		return "", false // another route has the name
	}
	return local, true
}
