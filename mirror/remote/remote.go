// Package remote fills any registry over the distribution protocol, for destinations
// other than an appliance.
//
// Use Open. A *Run is a mirror.Destination. Protocol, logins and retries are
// go-containerregistry's. A registry has no transactions, so what is staged exists by digest, the
// tags of Keep appear at once, and those that are left at Commit, one by one. A repeated run finds
// what exists and sets the tags that are missing. A blob that this run has found in another
// repository of the registry is mounted from there, where the registry supports that, once its
// source has confirmed it.
//
// Refused: plain HTTP when TLS fails, which go-containerregistry tries on private networks. A login
// would be sent in the clear. Plain HTTP is used where it is asked for, and then alone, but for
// other hosts that the registry sends to by https.
package remote

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/internal/busy"
	"github.com/mirror-appliance/appliance/internal/ping"
)

// parallel is how many questions, or tags, are under way at once.
const parallel = 16

// Options are which registry is filled, and how it is reached.
type Options struct {
	Registry  string // host[:port]
	PlainHTTP bool
	TLS       *tls.Config    // nil: the system's authorities
	Keychain  authn.Keychain // nil: anonymous
	UserAgent string
	Busy      *busy.Limits // shared with what else asks the registry; nil: its own
	// Sessions is a directory for the uploads that break off, which a later run continues; "": none
	// is continued.
	Sessions string
	Now      func() time.Time // nil: time.Now
	Log      *slog.Logger     // nil: discard
}

// Run fills a registry once.
type Run struct {
	registry name.Registry
	blobs    *remote.Pusher // which repeats nothing: a source is read once
	pusher   *remote.Pusher // of manifests
	puller   *remote.Puller
	login    login
	busy     *busy.Limits
	known    *known
	sessions *sessions

	mu   sync.Mutex // guards the rest
	tags []tag
	in   map[digest.Digest]string // a repository that has the blob
	// confirmed are the blobs, by repository, that its source has confirmed: those may be mounted.
	confirmed map[place]bool
}

type place struct {
	repo   string
	digest digest.Digest
}

type tag struct {
	repo, name string
	digest     digest.Digest
}

// Open prepares to fill a registry. It sends no request.
func Open(o Options) (*Run, error) {
	var options []name.Option
	if o.PlainHTTP {
		options = append(options, name.Insecure)
	}
	registry, err := name.NewRegistry(o.Registry, options...)
	if err != nil {
		return nil, fmt.Errorf("destination registry %q: %w", o.Registry, err)
	}
	// HTTP/1.1 only: each upload then has a connection of its own. Over one of HTTP/2 they share a window, which most
	// registries leave at Go's or nginx's small default, and each byte is framed and copied once more.
	var http1 http.Protocols
	http1.SetHTTP1(true)
	var wire http.RoundTripper = &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: o.TLS, Protocols: &http1,
		MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 30 * time.Second,
		// Of a large blob that it has received a registry may make a copy before it answers.
		ResponseHeaderTimeout: 10 * time.Minute,
	}
	if o.Busy == nil {
		o.Busy = busy.New(nil, nil)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	kept := &sessions{dir: o.Sessions, now: o.Now}
	kept.tidy()
	host := registry.RegistryStr()
	wire = &pages{registry: host, inner: &oneScheme{registry: host, plain: o.PlainHTTP, inner: &sparing{ping.Once(host, o.Busy.Transport(wire, nil))}}}
	wire = &heads{wire}
	wire = &resuming{inner: wire, sessions: kept, warn: func(err error) {
		o.Log.Warn("where an upload is could not be written to the workspace: if it breaks off, it begins again", "error", err)
	}}
	all := []remote.Option{remote.WithUserAgent(o.UserAgent), remote.WithTransport(wire)}
	if o.Keychain != nil {
		all = append(all, remote.WithAuthFromKeychain(o.Keychain))
	}
	r := &Run{registry: registry, busy: o.Busy, known: newKnown(), sessions: kept, in: map[digest.Digest]string{}, confirmed: map[place]bool{}}
	r.login = login{registry: registry, keychain: o.Keychain, wire: wire}
	once := append(slices.Clone(all), remote.WithTransport(&resend{wire, o.Log}), remote.WithRetryPredicate(func(error) bool { return false }))
	var errs [3]error
	r.blobs, errs[0] = remote.NewPusher(once...)
	r.pusher, errs[1] = remote.NewPusher(all...)
	r.puller, errs[2] = remote.NewPuller(all...)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("destination registry %q: %w", o.Registry, err)
	}
	return r, nil
}

func (r *Run) byDigest(repo string, d digest.Digest) name.Digest {
	return r.registry.Repo(repo).Digest(d.String())
}

// Existing asks the registry for each of them, for a blob once in a run, and not for one that it
// has acknowledged. A manifest that exists counts, whether or not its blobs still exist.
// Unconfirmed are the blobs that this run has found in other repositories.
func (r *Run) Existing(ctx context.Context, blobs, manifests map[string][]digest.Digest) (
	haveBlobs, haveManifests, unconfirmed map[string][]digest.Digest, err error,
) {
	if haveBlobs, err = those(ctx, blobs, r.hasBlob); err != nil {
		return nil, nil, nil, err
	}
	if haveManifests, err = those(ctx, manifests, r.hasManifest); err != nil {
		return nil, nil, nil, err
	}
	return haveBlobs, haveManifests, r.inAnother(blobs, haveBlobs), nil
}

// inAnother returns the blobs that are absent and that the run has found in another repository.
func (r *Run) inAnother(blobs, existing map[string][]digest.Digest) map[string][]digest.Digest {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := map[string][]digest.Digest{}
	for repo, list := range blobs {
		here := map[digest.Digest]bool{}
		for _, d := range existing[repo] {
			here[d] = true
		}
		for _, d := range list {
			if in, seen := r.in[d]; seen && in != repo && !here[d] {
				found[repo] = append(found[repo], d)
			}
		}
	}
	return found
}

// Confirm notes which blobs PutBlob may mount, and stages none: not every registry mounts.
func (r *Run) Confirm(_ context.Context, blobs map[string][]ocispec.Descriptor) (staged map[string][]digest.Digest, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for repo, list := range blobs {
		for _, b := range list {
			r.confirmed[place{repo, b.Digest}] = true
		}
	}
	return nil, nil
}

// those returns what exists of what is listed by repository.
func those(ctx context.Context, lists map[string][]digest.Digest, has func(context.Context, string, digest.Digest) (bool, error)) (map[string][]digest.Digest, error) {
	var mu sync.Mutex // guards existing
	existing := map[string][]digest.Digest{}
	g, within := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for repo, list := range lists {
		for _, d := range list {
			g.Go(func() error {
				if err := within.Err(); err != nil {
					return err // another has failed, or all is called off
				}
				there, err := has(within, repo, d)
				if err == nil && there {
					mu.Lock()
					defer mu.Unlock()
					existing[repo] = append(existing[repo], d)
				}
				return err
			})
		}
	}
	return existing, g.Wait()
}

func (r *Run) hasBlob(ctx context.Context, repo string, d digest.Digest) (bool, error) {
	if exists, sure := r.known.blob(repo, d); sure {
		return exists, nil
	}
	exists := false
	layer, err := r.puller.Layer(ctx, r.byDigest(repo, d))
	if err == nil {
		exists, err = partial.Exists(layer)
	}
	switch {
	case r.absent(ctx, err):
		exists = false
	case err != nil:
		return false, r.failed("look for blob "+d.String(), err)
	case exists:
		r.saw(repo, d)
	}
	r.known.setBlob(repo, d, exists)
	return exists, nil
}

func (r *Run) hasManifest(ctx context.Context, repo string, d digest.Digest) (bool, error) {
	_, err := r.puller.Head(ctx, r.byDigest(repo, d))
	missing := r.absent(ctx, err)
	if err != nil && !missing {
		return false, r.failed("look for manifest "+d.String(), err)
	}
	r.known.lacks(repo, d, missing)
	return !missing, nil
}

// saw notes a repository that has a blob, to mount it from.
func (r *Run) saw(repo string, d digest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.in[d] = repo
}

// mountable returns the layer, mounted if another repository has it and its source
// has confirmed it.
func (r *Run) mountable(repo string, d digest.Digest, layer v1.Layer) v1.Layer {
	r.mu.Lock()
	defer r.mu.Unlock()
	from, ok := r.in[d]
	if !ok || from == repo || !r.confirmed[place{repo, d}] {
		return layer
	}
	return &remote.MountableLayer{Layer: layer, Reference: r.byDigest(from, d)}
}

// PutBlob streams a blob into repo, or mounts it and reads nothing. Of content that is an io.Seeker
// it sends the rest, if an earlier upload broke off: then it is the registry that verifies it.
func (r *Run) PutBlob(ctx context.Context, repo string, desc ocispec.Descriptor, content io.Reader) error {
	read := &verifying{Verifier: desc.Digest.Verifier()}
	layer := &streamed{desc: desc, content: io.TeeReader(io.LimitReader(content, desc.Size+1), read)}
	u := &upload{registry: r.registry.RegistryStr(), repo: repo, desc: desc, content: content}
	ctx = context.WithValue(r.known.uploading(ctx, repo, desc.Digest), uploadKey{}, u)
	r.known.forgetBlob(repo, desc.Digest) // until the registry acknowledges it
	err := r.blobs.Upload(ctx, r.registry.Repo(repo), r.mountable(repo, desc.Digest, layer))
	if layer.opened && read.n >= desc.Size && !read.Verified() { // whatever the registry answered
		err = errMismatch
	}
	if err = r.sessions.ended(u, err); err != nil {
		return r.failed("put blob "+desc.Digest.String(), err)
	}
	r.saw(repo, desc.Digest)
	r.known.setBlob(repo, desc.Digest, true)
	return nil
}

// PutManifest puts a manifest by digest.
func (r *Run) PutManifest(ctx context.Context, repo string, desc ocispec.Descriptor, body []byte) error {
	m := manifest{body: body, mediaType: types.MediaType(desc.MediaType)}
	if err := r.pusher.Put(ctx, r.byDigest(repo, desc.Digest), m); err != nil {
		return r.failed("put manifest "+desc.Digest.String(), err)
	}
	r.known.put(repo, desc.Digest, m)
	return nil
}

// Tag keeps tags for Commit.
func (r *Run) Tag(_ context.Context, tags map[string]map[string]digest.Digest) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for repo, named := range tags {
		for name, d := range named {
			r.tags = append(r.tags, tag{repo, name, d})
		}
	}
	return nil
}

// Commit sets the tags that do not name their manifest already: a registry may refuse to have a tag
// set again. A tag that is refused stops no other.
func (r *Run) Commit(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var g errgroup.Group
	g.SetLimit(parallel)
	errs := make([]error, len(r.tags))
	for i, t := range r.tags {
		g.Go(func() error {
			if err := r.set(ctx, t); err != nil {
				errs[i] = r.failed(fmt.Sprintf("tag %s:%s", t.repo, t.name), err)
			}
			return nil
		})
	}
	_ = g.Wait() // the errors are all kept
	failed := slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	// The first one tells whether all is called again, which one that may pass is worth.
	slices.SortStableFunc(failed, func(a, b error) int { return cmp.Compare(finality(a), finality(b)) })
	if n := len(failed) - mentioned; n > 0 {
		failed = append(failed[:mentioned], fmt.Errorf("and %d other tags", n))
	}
	return errors.Join(failed...)
}

// mentioned is how many of the tags that failed an error names.
const mentioned = 10

// Abort drops the tags. What was put stays, and a repeated run finds it.
func (r *Run) Abort(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tags = nil
	return nil
}

// manifest is put as it is, whatever it refers to.
type manifest struct {
	body      []byte
	mediaType types.MediaType
}

func (m manifest) RawManifest() ([]byte, error)        { return m.body, nil }
func (m manifest) MediaType() (types.MediaType, error) { return m.mediaType, nil }

// streamed is a layer that can be read once. The engine retries, since it can open
// the source again.
type streamed struct {
	desc    ocispec.Descriptor
	content io.Reader
	opened  bool
}

func (s *streamed) Digest() (v1.Hash, error) { return v1.NewHash(s.desc.Digest.String()) }
func (s *streamed) DiffID() (v1.Hash, error) { return v1.Hash{}, errors.New("not known") }
func (s *streamed) Size() (int64, error)     { return s.desc.Size, nil }
func (s *streamed) MediaType() (types.MediaType, error) {
	return types.MediaType(s.desc.MediaType), nil
}
func (s *streamed) Uncompressed() (io.ReadCloser, error) { return nil, errors.New("not known") }

func (s *streamed) Compressed() (io.ReadCloser, error) {
	if s.opened {
		return nil, errors.New("the upload broke off")
	}
	s.opened = true
	return io.NopCloser(s.content), nil
}

// verifying hashes and counts what is written to it.
type verifying struct {
	digest.Verifier
	n int64
}

func (v *verifying) Write(p []byte) (int, error) {
	n, err := v.Verifier.Write(p)
	v.n += int64(n)
	return n, err
}
