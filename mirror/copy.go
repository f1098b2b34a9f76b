package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// copyImage copies the manifests of an image that the destination does not have. It returns Existed
// if there are none, else Done.
func (x *execution) copyImage(ctx context.Context, image *plan.Image, has *answer) (EventKind, error) {
	var missing, existing []plan.Manifest
	for _, m := range image.All() {
		if has.complete(image.Repository, m) {
			existing = append(existing, m)
		} else {
			missing = append(missing, m)
		}
	}
	if err := x.copyManifests(ctx, image, missing); err != nil {
		return Failed, err
	}
	if err := x.keepExisting(ctx, image, existing); err != nil {
		return Failed, err
	}
	if len(missing) == 0 {
		return Existed, nil
	}
	return Done, nil
}

// copyManifests copies manifests with their blobs, children first.
func (x *execution) copyManifests(ctx context.Context, image *plan.Image, manifests []plan.Manifest) error {
	if len(manifests) == 0 {
		return nil
	}
	blobs := plan.Blobs(manifests)
	defer x.share(blobs)()
	there, err := x.inventory.blobs(ctx, image, blobs...)
	if err == nil && x.o.Documents != nil {
		err = x.copyWhatIsHere(ctx, image, blobs, there)
	}
	if err != nil {
		return err
	}
	for _, m := range manifests {
		err := x.copyBlobs(ctx, image, m.Blobs, there)
		if err == nil {
			err = x.putManifest(ctx, image, m)
		}
		if err != nil {
			return ofAttachment(image, m, err)
		}
	}
	return nil
}

// ofAttachment adds the tag or digest to the error of a manifest that is a signature or another attachment.
// Other errors are returned as they are.
func ofAttachment(image *plan.Image, m plan.Manifest, err error) error {
	for _, a := range image.Attachments {
		for _, of := range a.Manifests {
			if of.Descriptor.Digest == m.Descriptor.Digest {
				return hint.New(fmt.Errorf("its signature or other attachment %s: %w", cmp.Or(a.Tag, a.Digest.String()), err), withoutSignatures)
			}
		}
	}
	return err
}

// copyBlobs copies those blobs of a manifest that are not there yet, and notes that they are.
func (x *execution) copyBlobs(ctx context.Context, image *plan.Image, blobs []ocispec.Descriptor,
	there map[place]bool) error {
	g, within := errgroup.WithContext(ctx)
	g.SetLimit(x.o.ParallelLayers)
	for _, b := range blobs {
		if !there[place{image.Repository, b.Digest}] {
			g.Go(func() error { return x.copyBlob(within, image, b) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, b := range blobs {
		there[place{image.Repository, b.Digest}] = true
	}
	return nil
}

// copyBlob copies a blob that the destination did not have, unless another image has done so since.
func (x *execution) copyBlob(ctx context.Context, image *plan.Image, b ocispec.Descriptor) error {
	blob := x.shared(b.Digest)
	select {
	case <-blob.free:
		defer func() { blob.free <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if blob.put {
		there, err := x.inventory.blobs(ctx, image, b)
		if err != nil || there[place{image.Repository, b.Digest}] {
			return err
		}
	}
	source, err := x.sources.source(image.Reference)
	if err != nil {
		return err
	}
	err = x.write(ctx, "put blob "+b.Digest.String(),
		func() error { return x.transfer(ctx, remembering{source, x.sources}, image, b) })
	blob.put = blob.put || err == nil
	return err
}

// transfer moves the bytes straight from the source's connection to the destination's.
// Only the destination hashes them.
func (x *execution) transfer(ctx context.Context, source Source, image *plan.Image, b ocispec.Descriptor) error {
	reading, cancel := context.WithCancel(ctx)
	content := &content{ctx: reading, source: source, image: image, blob: b, events: x.o.Events}
	err := x.dst.PutBlob(reading, image.Repository, b, content)
	cancel() // which ends a Read that the destination's HTTP client has left under way
	failed := content.close()
	switch {
	case err == nil:
		return nil
	case failed != nil && !errors.Is(failed, context.Canceled):
		err = &sourceError{failed} // the destination's error about a body that broke off adds nothing
	case mismatched(err) && content.from == 0: // else it was what the destination had
		if failed := check(ctx, source, b); failed != nil {
			err = &sourceError{failed}
		}
	}
	return fmt.Errorf("copy blob %s: %w", b.Digest, err)
}

func mismatched(err error) bool {
	var m mismatch
	return errors.As(err, &m) && m.Mismatch()
}

// check reads a blob once more, to find out whether it is damaged at its source or was on its way.
func check(ctx context.Context, source Source, b ocispec.Descriptor) error {
	body, _, err := source.Blob(ctx, b.Digest)
	if err != nil {
		return err
	}
	_, err = io.Copy(listening{ctx}, body)
	return errors.Join(err, body.Close())
}

// content is a blob at its source. The first Read opens it: a destination that refuses or mounts
// the blob costs the source nothing.
type content struct {
	ctx    context.Context // reading takes no context of its own
	source Source
	image  *plan.Image
	blob   ocispec.Descriptor
	events func(Event)

	mu     sync.Mutex // guards the rest; held while reading
	body   io.ReadCloser
	from   int64 // what Seek has skipped
	read   int64 // with that
	err    error // what reading ended with, other than the end
	closed bool
}

func (c *content) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, io.ErrClosedPipe
	}
	if c.from > 0 && c.from == c.blob.Size {
		return 0, io.EOF
	}
	if c.body == nil && c.err == nil {
		c.body, _, c.err = c.source.BlobFrom(c.ctx, c.blob.Digest, c.from)
	}
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.body.Read(p)
	c.read += int64(n)
	if n > 0 {
		heard(c.ctx)
		c.events(Event{Kind: Bytes, Image: c.image, Bytes: int64(n)})
	}
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		c.err = err
	case c.read > c.blob.Size, err != nil && c.read < c.blob.Size:
		c.err = c.wrongSize()
		return 0, c.err
	}
	return n, err
}

// Seek lets a destination that has the first offset bytes read the rest, before the first Read.
func (c *content) Seek(offset int64, whence int) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if whence != io.SeekStart || offset < 0 || offset > c.blob.Size || c.body != nil || c.err != nil {
		return 0, fmt.Errorf("blob %s cannot be read from byte %d", c.blob.Digest, offset)
	}
	c.from, c.read = offset, offset
	return offset, nil
}

// wrongSize is the error of a manifest that gives its blob another size.
func (c *content) wrongSize() error {
	return fmt.Errorf("registry %s: repository %s: get blob %s: its manifest gives it %d bytes, the registry %d",
		c.image.Reference.Registry(), c.image.Reference.Repository(), c.blob.Digest, c.blob.Size, c.read)
}

// close ends reading and returns what reading failed with.
func (c *content) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.body != nil {
		_ = c.body.Close() // the destination has verified what was read
	}
	return c.err
}

// shared is a blob of images that are under way. While one of them copies it, the others
// wait and then find it.
type shared struct {
	free   chan struct{} // has a token while no image copies it
	put    bool          // it was put while an image under way needed it; touched with the token
	images int           // that are under way and need it; guarded by execution.mu
}

// share keeps track of blobs until end is called. It is called before the destination is asked for
// them, so that what another image puts later is noticed.
func (x *execution) share(blobs []ocispec.Descriptor) (end func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, b := range blobs {
		if x.blobs[b.Digest] == nil {
			x.blobs[b.Digest] = &shared{free: make(chan struct{}, 1)}
			x.blobs[b.Digest].free <- struct{}{}
		}
		x.blobs[b.Digest].images++
	}
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		for _, b := range blobs {
			if x.blobs[b.Digest].images--; x.blobs[b.Digest].images == 0 {
				delete(x.blobs, b.Digest)
			}
		}
	}
}

func (x *execution) shared(d digest.Digest) *shared {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.blobs[d]
}
