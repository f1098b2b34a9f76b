// Package oci is the registry API, /v2: what podman, skopeo, crane, oc-mirror and a cluster's nodes speak.
//
// New gives one http.Handler, made of two. The protocol with its states, uploads above all, is
// distribution's App, which has a decade of clients behind it; under it lies our own Namespace over
// the store, so that distribution's storage, its link files, its garbage collector and its caches are
// never touched. In front of the App stands a handler of our own for three reasons:
//
//   - what is asked most, manifests and blobs, is answered straight from the store, a quarter of the
//     work and exactly the bytes that were pushed: no conversion by Accept, no second parse and hash;
//   - what the App lacks: referrers, OCI-Subject, push in a single POST, anonymous mount, tags as
//     parameters, pull-through, sha512;
//   - what the App answers with 500 although the client is at fault. The store's own errors are told by
//     one table (errors.go), not by what the App makes of them.
//
// Refused: a registry API of our own from end to end (uploads are where registries differ from their
// clients' expectations), and distribution as it is (it fails 91 checks of the conformance suite and
// costs five times as much a manifest).
package oci

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/store"
)

// An Upstream is asked for what the store does not hold.
type Upstream interface {
	// Serves reports whether the repository is one that is pulled through. Nothing can be pushed there.
	Serves(repo string) bool
	// Manifest returns the manifest named by a tag or a digest. It fetches and stores what is not held
	// or not fresh. store.ErrNotFound: it does not exist upstream either.
	Manifest(ctx context.Context, repo, ref string) (store.Manifest, error)
	// Resolve reports what a tag or a digest stands for, as Manifest does, and fetches nothing.
	Resolve(ctx context.Context, repo, ref string) (ocispec.Descriptor, error)
	// Blob opens a blob, which is read while it is fetched and stored. store.ErrNotFound as above.
	Blob(ctx context.Context, repo string, d digest.Digest) (rc io.ReadSeekCloser, size int64, err error)
	// Stat gives the size of a blob, -1 if it is not known, and fetches nothing.
	Stat(ctx context.Context, repo string, d digest.Digest) (size int64, err error)
	// Referrers lists what the upstream knows to refer to a manifest.
	Referrers(ctx context.Context, repo string, subject digest.Digest) ([]ocispec.Descriptor, error)
	// Locate returns the repository here that is pulled through from repo of the registry at host.
	Locate(host, repo string) (local string, ok bool)
}

// Options says what the API is made over.
type Options struct {
	Store    *store.Store
	Upstream Upstream     // nil: nothing is pulled through
	Secret   []byte       // signs upload sessions; keep it, or a restart forgets them
	Log      *slog.Logger // nil: discard

	// Audit gets one line for each push of a manifest and each delete: message "audit" with the keys event,
	// user, remote, repository, tags and digest. nil: discard.
	Audit *slog.Logger
	// MaxUploads is how many blobs a user may be sending at once; more are refused with 429. One
	// podman sends six. 0: any number.
	MaxUploads int
	// DeleteReferrers makes the deletion of a manifest take along what refers to it, by subject or by a
	// tag as cosign makes them (sha256-….sig, .att, .sbom).
	DeleteReferrers bool
}

// An API is the handler of /v2. It does not ask who is asking: put auth.Authenticator.RequireToken in
// front of it, with Action, Scope and Denied. Of the Identity that it finds it looks at the grants.
type API struct {
	store    *store.Store
	upstream Upstream
	log      *slog.Logger
	audit    *slog.Logger
	app      *handlers.App
	uploads  *uploads
	cascade  bool
	patience time.Duration
	routes   map[kind]map[string]handle
}

// A handle answers a request, or returns an error and has written nothing.
type handle func(w http.ResponseWriter, r *http.Request, t target) error

// New returns the API over o.Store. Close it before the store.
func New(ctx context.Context, o Options) (*API, error) {
	if o.Store == nil || len(o.Secret) == 0 {
		return nil, errors.New("the registry API needs a store and a secret")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Audit == nil {
		o.Audit = slog.New(slog.DiscardHandler)
	}
	app, err := newApp(ctx, o.Store, o.Secret)
	if err != nil {
		return nil, err
	}
	a := &API{store: o.Store, upstream: o.Upstream, log: o.Log, audit: o.Audit, app: app, cascade: o.DeleteReferrers, patience: patience}
	a.uploads = &uploads{limit: o.MaxUploads, active: make(map[string]int)}
	a.routes = a.table()
	return a, nil
}

// Close ends the API. Requests under way must have ended.
func (a *API) Close() error { return a.app.Shutdown() }

// table says who answers what. A method that is not here is refused with 405.
func (a *API) table() map[kind]map[string]handle {
	const (
		get, head, post   = http.MethodGet, http.MethodHead, http.MethodPost
		put, patch, erase = http.MethodPut, http.MethodPatch, http.MethodDelete
	)
	return map[kind]map[string]handle{
		kindBase:      {get: a.viaApp, head: a.viaApp},
		kindCatalog:   {get: a.getPage, head: a.getPage},
		kindTags:      {get: a.getPage, head: a.getPage},
		kindManifest:  {get: a.getManifest, head: a.getManifest, put: a.putManifest, erase: a.viaApp},
		kindBlob:      {get: a.getBlob, head: a.headBlob, erase: a.viaApp},
		kindUploads:   {post: a.startUpload},
		kindUpload:    {get: a.viaApp, head: a.viaApp, patch: a.continueUpload, put: a.continueUpload, erase: a.cancelUpload},
		kindReferrers: {get: a.getReferrers, head: a.getReferrers},
	}
}

// ServeHTTP answers a request to /v2 and whatever is below it.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := a.serve(w, r); err != nil {
		a.answer(w, r, err)
	}
}

func (a *API) serve(w http.ResponseWriter, r *http.Request) error {
	t, err := parse(r.URL.Path)
	if err != nil {
		return err
	}
	methods := a.routes[t.kind]
	h, ok := methods[r.Method]
	if !ok {
		return errMethod(r.Method, allowed(methods))
	}
	t = a.located(r, t)
	if err := granted(r, t); err != nil {
		return err
	}
	end, err := a.uploads.begin(r, t)
	if err != nil {
		return err
	}
	defer end()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		id, _ := auth.IdentityFrom(r.Context())
		r = r.WithContext(store.WithUser(r.Context(), id.Name))
	}
	return h(w, a.paceBody(w, r), t)
}

func allowed(methods map[string]handle) string {
	var names []string
	for name := range methods {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// pulledThrough reports whether an upstream serves the repository.
func (a *API) pulledThrough(repo string) bool { return a.upstream != nil && a.upstream.Serves(repo) }

// refusePush refuses to put anything where an upstream decides what there is: it would be gone, or
// someone else's, at the next pull.
func (a *API) refusePush(repo string) error {
	if !a.pulledThrough(repo) {
		return nil
	}
	return &problem{status: http.StatusForbidden, code: codeDenied,
		message: "repository " + repo + " is pulled through from an upstream registry; push to another repository"}
}
