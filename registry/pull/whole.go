package pull

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store"
)

// wholeBlobs is how many blobs Fetch has under way: it leaves places to clients.
const wholeBlobs = 4

// Fetched is how much of an image is stored.
type Fetched struct {
	Blobs, OfBlobs int
	Bytes, OfBytes int64
}

// FetchOptions are what Fetch tells its caller.
type FetchOptions struct {
	// Stored is called when the manifest is stored, before the rest is fetched. nil: nothing.
	Stored   func(ctx context.Context, m store.Manifest) error
	Progress func(Fetched) // may be called often; nil: nothing
}

// Whole is an image that is stored whole.
type Whole struct {
	Fetched
	// Unasked is why the upstream could not be asked for the attachments of some manifests; nil: it
	// was asked for all.
	Unasked error
}

// Fetch stores what is lacking of an image: of an index the manifests for the platforms of the
// route, their configs and layers, and their signatures and other attachments. What was stored
// stays after an error. Errors are those of Manifest.
func (p *Puller) Fetch(ctx context.Context, repo, ref string, options FetchOptions) (Whole, error) {
	o, err := p.origin(repo)
	if err != nil {
		return Whole{}, err
	}
	m, err := p.Manifest(ctx, repo, ref)
	if err != nil {
		return Whole{}, err
	}
	if options.Stored != nil {
		if err := options.Stored(ctx, m); err != nil {
			return Whole{}, err
		}
	}
	f := &fetch{Puller: p, o: o, seen: map[digest.Digest]bool{}, tell: options.Progress}
	if f.tell == nil {
		f.tell = func(Fetched) {}
	}
	if err := f.manifest(ctx, m); err != nil {
		return Whole{}, err
	}
	err = f.fetchBlobs(ctx)
	return Whole{f.now, f.unasked}, err
}

// fetch is one call of Fetch.
type fetch struct {
	*Puller
	o       origin
	seen    map[digest.Digest]bool
	blobs   []image.Reference
	unasked error
	tell    func(Fetched)

	mu  sync.Mutex // guards now
	now Fetched
}

// manifest notes the blobs of a stored manifest, and stores what is below it and what belongs to it.
func (f *fetch) manifest(ctx context.Context, m store.Manifest) error {
	if f.seen[m.Digest] {
		return nil
	}
	f.seen[m.Digest] = true
	parsed, err := image.Parse(m.MediaType, m.Body)
	if err != nil {
		return err
	}
	for _, b := range parsed.Required() {
		if !f.seen[b.Digest] {
			f.seen[b.Digest] = true
			f.blobs = append(f.blobs, b)
			f.now.OfBlobs, f.now.OfBytes = f.now.OfBlobs+1, f.now.OfBytes+b.Size
		}
	}
	f.tell(f.now)
	if image.IsIndex(parsed.EffectiveType()) {
		if err := f.children(ctx, m.Body); err != nil {
			return err
		}
	}
	return f.attachments(ctx, m.Digest)
}

// children stores the manifests of an index that are for the platforms of the route.
func (f *fetch) children(ctx context.Context, body []byte) error {
	var index struct {
		Manifests []struct {
			Digest   digest.Digest `json:"digest"`
			Platform *v1.Platform  `json:"platform"`
		} `json:"manifests"`
	}
	if err := json.Unmarshal(body, &index); err != nil {
		return err
	}
	for _, child := range index.Manifests {
		wanted := func(p v1.Platform) bool { return child.Platform.Satisfies(p) }
		if child.Platform != nil && child.Platform.OS != "unknown" && len(f.o.Platforms) > 0 && !slices.ContainsFunc(f.o.Platforms, wanted) {
			continue
		}
		m, err := f.Manifest(ctx, f.o.repo, child.Digest.String())
		if err == nil {
			err = f.manifest(ctx, m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// attachments stores what is attached to a manifest. An answer to a node makes "not found" of every
// failure; here a failure is told, since a signature that is not fetched now is missed when the link
// is cut.
func (f *fetch) attachments(ctx context.Context, subject digest.Digest) error {
	for _, tag := range image.AttachmentTags(subject) {
		m, err := f.attachment(ctx, tag)
		if err := f.attached(ctx, m, err); err != nil {
			return err
		}
	}
	key := "all referrers " + f.o.repo + "@" + subject.String()
	list, err := ask(ctx, f.calls, f.o, key, 0, func(ctx context.Context) ([]ocispec.Descriptor, error) {
		return f.o.Source.Referrers(ctx, f.o.upstream, subject)
	})
	if err != nil {
		return f.attached(ctx, store.Manifest{}, err)
	}
	for _, d := range list {
		m, err := f.Manifest(ctx, f.o.repo, d.Digest.String())
		if err := f.attached(ctx, m, err); err != nil {
			return err
		}
	}
	return nil
}

// attachment returns the manifest of a tag of attachments.
func (f *fetch) attachment(ctx context.Context, tag string) (store.Manifest, error) {
	if _, err := f.store.Manifests.ByTag(ctx, f.o.repo, tag); err == nil {
		return f.Manifest(ctx, f.o.repo, tag)
	}
	return ask(ctx, f.calls, f.o, "attached "+f.o.repo+":"+tag, 0, func(ctx context.Context) (store.Manifest, error) {
		return f.manifests.fetch(ctx, f.o, tag, tag)
	})
}

// attached notes the blobs of an attachment that was stored, or why it was not.
func (f *fetch) attached(ctx context.Context, m store.Manifest, err error) error {
	var ours *storeError
	switch {
	case err == nil:
		return f.manifest(ctx, m)
	case errors.Is(err, store.ErrNotFound):
		return nil
	case ctx.Err() != nil || errors.As(err, &ours) || errors.Is(err, errClosed):
		return err
	}
	if f.unasked == nil {
		f.unasked = err
	}
	return nil
}

// fetchBlobs stores the blobs. One that fails does not stop the others: the next Fetch has less to do.
func (f *fetch) fetchBlobs(ctx context.Context) error {
	var g errgroup.Group
	g.SetLimit(wholeBlobs)
	for _, b := range f.blobs {
		g.Go(func() error {
			rest := b.Size
			err := f.fetchBlob(ctx, b.Digest, func(n int64) {
				n = min(n, rest)
				rest -= n
				f.progress(0, n)
			})
			if err == nil {
				f.progress(1, rest)
			}
			return err
		})
	}
	return g.Wait()
}

func (f *fetch) progress(blobs int, bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now.Blobs, f.now.Bytes = f.now.Blobs+blobs, f.now.Bytes+bytes
	f.tell(f.now)
}

// fetchBlob stores a blob, unless it is stored. arrived is called with the number of new bytes.
func (f *fetch) fetchBlob(ctx context.Context, d digest.Digest, arrived func(n int64)) error {
	rc, _, err := f.openStored(ctx, f.o.repo, d)
	if err == nil {
		return rc.Close()
	}
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	user := userOf(ctx)
	download, err := f.downloads.follow(f.o, d, user)
	if err != nil {
		return err
	}
	defer f.downloads.leave(download, user)
	return download.wait(ctx, arrived)
}
