// Package mirror is the sync engine: it turns an image set into a plan, and executes the plan.
//
// Use New, then Engine.Plan, then Engine.Execute. A dry run is the plan, unexecuted. A plan names every manifest and
// blob by digest, with what each is for; executing it asks the destination for all of them, many at once, and fetches
// what is not held, so that a rerun is a resume, and one that has nothing to do a few requests.
//
// What fails is named, with its cause and with what it makes incomplete, and the rest goes on: a mirror of a
// thousand images is not lost to one of them, and a rerun has only that one left. Complete images become visible
// together, in one commit at the end, also when others failed. The tag of an image that failed stays where it was.
// A release is complete with all its components or not at all; of an incomplete one no tag moves.
//
// Refused: a cache registry on this host, which is a second copy of everything, and stopping everything at the
// first failure, which oc-mirror does for releases.
package mirror

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/upstream"
)

// Destination is an opened run at the place that is filled. What is put is staged; Commit makes all of it visible at
// once. *store.Run, *admin.Run and *remote.Run are destinations. Methods may be called concurrently, except for
// Commit and Abort, of which one is called at the end; neither is when a run is cancelled, so that what was staged is
// kept from collection for a while and serves the next run. Whatever failed may be asked again, Commit and Tag too: an
// answer that was lost does not tell whether it was done.
type Destination interface {
	// Held lists those of some blobs and manifests, both by the repository that they are for, that are held there and need
	// not be put. Those are kept from collection from then on, and the manifests are staged. A caller that must know that a
	// manifest is whole asks for its blobs, and for the children of an index, too. Unconfirmed are the blobs that only other
	// repositories have: a source that names them need not have them.
	Held(ctx context.Context, blobs, manifests map[string][]digest.Digest) (heldBlobs, heldManifests, unconfirmed map[string][]digest.Digest, err error)
	// Confirm stages unconfirmed blobs without their bytes, where it can: the caller has asked the source of each repository,
	// which has the blobs that are listed by it, with these sizes. It gives those that it has staged; the others are put.
	Confirm(ctx context.Context, blobs map[string][]ocispec.Descriptor) (staged map[string][]digest.Digest, err error)
	// PutBlob stages a blob, verifying its size and digest. It reads r once, to its end.
	PutBlob(ctx context.Context, repo string, desc ocispec.Descriptor, r io.Reader) error
	// PutManifest stages a manifest, whose blobs must be held in the repository, or staged for it.
	PutManifest(ctx context.Context, repo string, desc ocispec.Descriptor, body []byte) error
	// Tag stages tags: for each repository, which manifest, held or staged, each of them is to name.
	Tag(ctx context.Context, tags map[string]map[string]digest.Digest) error
	Commit(ctx context.Context) error
	Abort(ctx context.Context) error
}

// Bounds of Options.ParallelImages and ParallelLayers, and their defaults, which are oc-mirror's.
const (
	MaxParallel           = 10
	DefaultParallelImages = 4
	DefaultParallelLayers = 5
)

// Options say what is mirrored, and how.
type Options struct {
	Config *imageset.Config
	// Registry is the destination's host[:port], and Prefix the path below it that everything goes under. Both are
	// for names; what is put goes to a Destination.
	Registry, Prefix string
	// Workspace is the directory that holds working-dir.
	Workspace string
	// Upstream says how a registry is read.
	Upstream func(registry string) (upstream.Options, error)
	GraphURL string       // of the update service; "" is the public one
	HTTP     *http.Client // to ask it with; nil is a new one

	ParallelImages, ParallelLayers int // 0: the defaults
	Version                        string
	Now                            func() time.Time // nil: time.Now
	// Sleep waits before a put is repeated, and returns early, with ctx's error, when ctx ends. nil is a timer.
	Sleep  func(ctx context.Context, d time.Duration) error
	Log    *slog.Logger // nil: discard
	Events func(Event)  // progress; may be nil. Called from several goroutines.
}

// Engine mirrors one image set. Close it after use.
type Engine struct {
	o Options

	mu      sync.Mutex // guards the rest
	clients map[string]*upstream.Client
	read    map[string]manifest // by registry, repository and digest; releases share most of their components
}

type manifest struct {
	desc ocispec.Descriptor
	body []byte
}

// New makes an engine. It asks nothing yet.
func New(o Options) (*Engine, error) {
	if o.ParallelImages == 0 {
		o.ParallelImages = DefaultParallelImages
	}
	if o.ParallelLayers == 0 {
		o.ParallelLayers = DefaultParallelLayers
	}
	for name, n := range map[string]int{"images": o.ParallelImages, "layers": o.ParallelLayers} {
		if n < 1 || n > MaxParallel {
			return nil, fmt.Errorf("the flag parallel-%s must be between the range 1 to %d", name, MaxParallel)
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = retry.Sleep
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.HTTP == nil {
		o.HTTP = &http.Client{Timeout: 5 * time.Minute}
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	return &Engine{o: o, clients: map[string]*upstream.Client{}, read: map[string]manifest{}}, nil
}

// manifest reads a manifest, one that is named by digest once.
func (e *Engine) manifest(ctx context.Context, registry, repo, ref string) (ocispec.Descriptor, []byte, error) {
	key := registry + "/" + repo + "@" + ref
	e.mu.Lock()
	m, ok := e.read[key]
	e.mu.Unlock()
	if ok {
		return m.desc, m.body, nil
	}
	client, err := e.client(registry)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	desc, body, err := client.Manifest(ctx, repo, ref)
	if err == nil && desc.Digest.String() == ref {
		e.mu.Lock()
		e.read[key] = manifest{desc, body}
		e.mu.Unlock()
	}
	return desc, body, err
}

// Close gives up the connections to upstreams.
func (e *Engine) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.clients {
		c.Close()
	}
	clear(e.clients)
}

// client is the one client for a registry: it keeps connections and tokens.
func (e *Engine) client(registry string) (*upstream.Client, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c, ok := e.clients[registry]; ok {
		return c, nil
	}
	o, err := e.o.Upstream(registry)
	if err != nil {
		return nil, err
	}
	c, err := upstream.New(o)
	if err != nil {
		return nil, err
	}
	e.clients[registry] = c
	return c, nil
}

// Event is a step of progress.
type Event struct {
	Kind  EventKind
	Image *Image // nil for Bytes
	Bytes int64  // fetched since the last such event
	Err   error  // of Failed
}

// EventKind says what happened.
type EventKind int

// The kinds of events.
const (
	Resolved EventKind = iota // while planning: its manifests have been read, or not
	Started
	Done // copied
	Held // it was there already
	Failed
	Bytes
)
