// Package oci is the registry API, /v2: what podman, skopeo, crane, oc-mirror and a cluster's nodes speak.
//
// New gives one http.Handler over the store. Every answer is made here, of one parse of the path and one look at the
// grants; what the store refuses is told by one table (errors.go).
//
//   - Manifests are sent as they were pushed, byte for byte: no conversion by Accept, since that would have another
//     digest than the one asked for.
//   - An upload session is the store's; its Location carries how much it held (session.go), so that a part that is
//     sent twice is refused with where to go on, and not appended twice.
//   - The order of checks is: path, method, grants, bounds on uploads, and then what the request asks for.
//
// Refused: distribution's App, in front of the store. It was here once, for uploads, deletes and lists, and cost a sixth
// of the processor time of a small image's push; what it made of errors had to be undone on the way back.
package oci

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/pace"
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
	uploads  *uploads
	cascade  bool
	patience time.Duration
	scan     int // repositories to read at a time for a catalog of which not all are visible
	routes   map[kind]map[string]handle
}

// A handle answers a request, or returns an error and has written nothing.
type handle func(w http.ResponseWriter, r *http.Request, t target) error

// New returns the API over o.Store.
func New(o Options) *API {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Audit == nil {
		o.Audit = slog.New(slog.DiscardHandler)
	}
	a := &API{store: o.Store, upstream: o.Upstream, log: o.Log, audit: o.Audit, cascade: o.DeleteReferrers, patience: pace.Patience, scan: maxPage}
	a.uploads = &uploads{limit: o.MaxUploads, active: make(map[string]int)}
	a.routes = a.table()
	return a
}

// table says who answers what. A method that is not here is refused with 405.
func (a *API) table() map[kind]map[string]handle {
	const (
		get, head, post   = http.MethodGet, http.MethodHead, http.MethodPost
		put, patch, erase = http.MethodPut, http.MethodPatch, http.MethodDelete
	)
	return map[kind]map[string]handle{
		kindBase:      {get: a.getBase, head: a.getBase},
		kindCatalog:   {get: a.getCatalog, head: a.getCatalog},
		kindTags:      {get: a.getTags, head: a.getTags},
		kindManifest:  {get: a.getManifest, head: a.getManifest, put: a.putManifest, erase: a.deleteManifest},
		kindBlob:      {get: a.getBlob, head: a.headBlob, erase: a.deleteBlob},
		kindUploads:   {post: a.startUpload},
		kindUpload:    {get: a.uploadStatus, head: a.uploadStatus, patch: a.continueUpload, put: a.continueUpload, erase: a.cancelUpload},
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
