package mirror

import (
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// origin is a blob at a source.
type origin struct {
	registry, repository string
	digest               digest.Digest
	size                 int64
}

// heldBlobs asks which of some of an image's blobs the destination holds. Those that it has in other repositories only it
// holds as well once the image's source has confirmed them.
func (x *execution) heldBlobs(ctx context.Context, image *Image, blobs ...ocispec.Descriptor) (map[place]bool, error) {
	digests := make([]digest.Digest, len(blobs))
	for i, b := range blobs {
		digests[i] = b.Digest
	}
	held, unconfirmed, err := x.heldOf(ctx, x.dst, map[string][]digest.Digest{image.Repository: digests})
	if err != nil {
		return nil, fmt.Errorf("ask the destination for blobs: %w", err)
	}
	there, others := places(held), places(unconfirmed)
	confirmed := x.atSource(ctx, image, slices.DeleteFunc(slices.Clone(blobs), func(b ocispec.Descriptor) bool {
		return !others[place{image.Repository, b.Digest}]
	}))
	if len(confirmed) == 0 {
		return there, ctx.Err()
	}
	var staged map[string][]digest.Digest
	err = x.insist(ctx, "confirm blobs", func() (err error) {
		staged, err = x.dst.Confirm(ctx, map[string][]ocispec.Descriptor{image.Repository: confirmed})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("confirm blobs to the destination: %w", err)
	}
	for p := range places(staged) {
		there[p] = true
	}
	return there, nil
}

// atSource gives those of some blobs that the image's source says it has, with the size that the manifest gives them. A
// manifest may name what its source does not have, and another repository of the destination does. A source that does not
// answer has not confirmed: the blob is fetched, which fails as well, or proves it.
func (x *execution) atSource(ctx context.Context, image *Image, blobs []ocispec.Descriptor) []ocispec.Descriptor {
	has := make([]bool, len(blobs))
	var g errgroup.Group
	g.SetLimit(x.o.ParallelLayers)
	for i, b := range blobs {
		g.Go(func() error {
			has[i] = x.confirms(ctx, image, b)
			return nil
		})
	}
	_ = g.Wait()
	var confirmed []ocispec.Descriptor
	for i, b := range blobs {
		if has[i] {
			confirmed = append(confirmed, b)
		}
	}
	return confirmed
}

// confirms reports whether the image's source says that it has a blob, and asks it once.
func (x *execution) confirms(ctx context.Context, image *Image, b ocispec.Descriptor) bool {
	at := origin{image.source.Registry(), image.source.Repository(), b.Digest, b.Size}
	x.mu.Lock()
	known := x.confirmed[at]
	x.mu.Unlock()
	if known {
		return true
	}
	client, err := x.client(at.registry)
	if err != nil {
		return false
	}
	size, err := client.Stat(ctx, at.repository, b.Digest)
	if err != nil || size != b.Size {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.confirmed[at] = true
	return true
}
