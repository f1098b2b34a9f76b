// Package oci implements the registry API, /v2.
//
// New returns one http.Handler over the store. A request's path is parsed once and its grants are
// checked once; one table turns errors of the store into answers (errors.go).
//
//   - Manifests are served byte for byte as pushed, whatever Accept says: a conversion
//     would change the digest.
//   - Upload sessions are the store's. A Location carries the size of its session
//     (upload.go), so that a chunk that is sent twice is refused with the offset to continue
//     at, and not appended twice.
//   - Checks come in this order: path, method, grants, the limit of uploads, then
//     the request itself.
//
// Refused: distribution's App before the store. It was here for uploads, deletes and lists, and
// took a sixth of the processor time of a small push; its errors had to be translated back.
package oci

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/pace"
	"github.com/mirror-appliance/appliance/internal/s3url"
	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/store"
)

// An Upstream serves what the store does not have.
type Upstream interface {
	// Serves reports whether the repository is pulled through. Pushes to it are refused.
	Serves(repo string) bool
	// Held counts an answer with what was held of a repository, for which nothing else was called.
	Held(repo string)
	// Manifest returns the manifest of a tag or a digest, and fetches and stores it if it is absent
	// or its TTL is over. store.ErrNotFound: the upstream does not have it either.
	Manifest(ctx context.Context, repo, ref string) (store.Manifest, error)
	// Resolve is Manifest without a fetch: it returns the descriptor.
	Resolve(ctx context.Context, repo, ref string) (ocispec.Descriptor, error)
	// Blob opens a blob, which is readable while it is fetched and stored.
	// store.ErrNotFound as above.
	Blob(ctx context.Context, repo string, d digest.Digest) (rc io.ReadSeekCloser, size int64, err error)
	// Stat returns the size of a blob, -1 if it is unknown, and fetches nothing.
	Stat(ctx context.Context, repo string, d digest.Digest) (size int64, err error)
	// Referrers lists the upstream's referrers of a manifest.
	Referrers(ctx context.Context, repo string, subject digest.Digest) ([]ocispec.Descriptor, error)
	// Tags lists the upstream's tags of a repository. held reports that there are some here.
	Tags(ctx context.Context, repo string, held bool) ([]string, error)
	// Locate returns the local repository that pulls through from repo of the registry at host.
	Locate(host, repo string) (local string, ok bool)
}

// Changes permits or refuses changes of content. Its refusals have a method ReadOnly.
type Changes interface {
	// Check returns the refusal of a change, nil if it is permitted.
	Check(ctx context.Context) error
	// Do calls change if it is permitted, and does not cease to permit it before the end.
	Do(ctx context.Context, change func(context.Context) error) error
}

// always permits all changes.
type always struct{}

func (always) Check(context.Context) error { return nil }

func (always) Do(ctx context.Context, change func(context.Context) error) error { return change(ctx) }

// Options configures an API.
type Options struct {
	Store    *store.Store
	Upstream Upstream     // nil: nothing is pulled through
	Changes  Changes      // nil: all are permitted
	Log      *slog.Logger // nil: discard

	// Audit receives a line for each pushed manifest and each delete: message "audit" with the keys
	// event, user, remote, repository, tags and digest. nil: discard.
	Audit *slog.Logger
	// MaxUploads limits the blobs that a user may send at once; more are refused with 429. podman
	// sends six. 0: no limit.
	MaxUploads int
	// AnyPath serves what one repository has by its digest under another, to those who may read both.
	AnyPath bool
	// Redirect is the storage to which clients are redirected for blobs, instead of getting them here;
	// nil: none is. A client that asks for what is here only is another appliance, which may not reach it.
	Redirect *s3url.Address
	// Missed is called for each manifest that a client asked for and did not get, by its tag or digest,
	// with the user and the address of the connection.
	// nil: nothing is.
	Missed func(repo, ref, user, remote string)
	// DeleteReferrers makes the deletion of a manifest delete its referrers too, by subject or by a
	// tag of cosign's (sha256-….sig, .att, .sbom).
	DeleteReferrers bool
}

// An API is the handler of /v2. It does not authenticate: wrap it in
// auth.Authenticator.RequireToken with Action, Scope and Denied. It checks the grants of the
// Identity in the context.
type API struct {
	store    *store.Store
	upstream Upstream
	changes  Changes
	log      *slog.Logger
	audit    *slog.Logger
	uploads  *uploads
	cascade  bool
	patience time.Duration
	missed   func(repo, ref, user, remote string)
	anyPath  bool
	redirect *s3url.Address
	routes   map[kind]map[string]handle
	onlyHeld *API // for a client that wants what is here, and no download: RFC 9111, 5.2.1.7
}

// A handle answers a request, or returns an error before it has written anything.
type handle func(w http.ResponseWriter, r *http.Request, t target) error

// New returns the API over o.Store.
func New(o Options) *API {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Audit == nil {
		o.Audit = slog.New(slog.DiscardHandler)
	}
	if o.Changes == nil {
		o.Changes = always{}
	}
	a := &API{store: o.Store, upstream: o.Upstream, changes: o.Changes, log: o.Log, audit: o.Audit,
		missed: o.Missed, anyPath: o.AnyPath, redirect: o.Redirect, cascade: o.DeleteReferrers, patience: pace.Patience}
	if a.missed == nil {
		a.missed = func(_, _, _, _ string) {}
	}
	a.uploads = &uploads{limit: o.MaxUploads, active: make(map[string]int)}
	a.routes = a.table()
	held := *a
	held.upstream, held.redirect, held.anyPath, held.missed = nil, nil, false, func(_, _, _, _ string) {}
	held.routes = held.table()
	a.onlyHeld = &held
	return a
}

// table returns the handlers. Other methods are refused with 405.
func (a *API) table() map[kind]map[string]handle {
	const (
		get, head, post   = http.MethodGet, http.MethodHead, http.MethodPost
		put, patch, erase = http.MethodPut, http.MethodPatch, http.MethodDelete
	)
	return map[kind]map[string]handle{
		kindBase:     {get: a.getBase, head: a.getBase},
		kindCatalog:  {get: a.getCatalog, head: a.getCatalog},
		kindTags:     {get: a.getTags, head: a.getTags},
		kindManifest: {get: a.wanted(a.getManifest), head: a.wanted(a.getManifest), put: a.putManifest, erase: a.deleteManifest},
		kindBlob:     {get: a.getBlob, head: a.headBlob, erase: a.deleteBlob},
		kindUploads:  {post: a.startUpload},
		kindUpload: {get: a.uploadStatus, head: a.uploadStatus, patch: a.continueUpload,
			put: a.continueUpload, erase: a.cancelUpload},
		kindReferrers: {get: a.getReferrers, head: a.getReferrers},
	}
}

// ServeHTTP answers a request to /v2 or below.
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
	if a.onlyHeld != nil && r.Header.Get("Cache-Control") == "only-if-cached" {
		a = a.onlyHeld
	}
	methods := a.routes[t.kind]
	h, ok := methods[r.Method]
	if !ok {
		return errMethod(r.Method, strings.Join(slices.Sorted(maps.Keys(methods)), ", "))
	}
	t = a.locate(r, t)
	if err := authorize(r, t); err != nil {
		return err
	}
	writes := r.Method != http.MethodGet && r.Method != http.MethodHead
	if writes {
		if err := a.changes.Check(r.Context()); err != nil {
			return repoCodes.explain(err)
		}
	}
	end, err := a.uploads.begin(r, t)
	if err != nil {
		return err
	}
	defer end()
	if writes {
		id, _ := auth.IdentityFrom(r.Context())
		r = r.WithContext(store.WithUser(r.Context(), id.Name))
	}
	return h(w, a.paceBody(w, r), t)
}

// pulledThrough reports whether an upstream serves the repository.
func (a *API) pulledThrough(repo string) bool { return a.upstream != nil && a.upstream.Serves(repo) }

// held counts an answer with what was held, if it might have been pulled through.
func (a *API) held(repo string) {
	if a.upstream != nil {
		a.upstream.Held(repo)
	}
}

// refusePush refuses pushes to a repository of an upstream: the next pull could overwrite them.
func (a *API) refusePush(repo string) error {
	if !a.pulledThrough(repo) {
		return nil
	}
	return refuse(http.StatusForbidden, codeDenied, "repository %s is pulled through from an upstream "+
		"registry; push to another repository", repo)
}
