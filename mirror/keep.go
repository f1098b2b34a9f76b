package mirror

import (
	"context"
	"fmt"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror/plan"
)

// keeper is a destination that may collect what no tag names while a run lasts. Keep puts a
// manifest under tags, visible at once. The tags are given to Tag as well.
type keeper interface {
	Keep(ctx context.Context, repo string, desc ocispec.Descriptor, body []byte, tags ...string) error
}

// early returns the tags of a manifest that a keeper sets when it is put. A payload is tagged when
// its release is complete.
func early(image *plan.Image, m plan.Manifest) []string {
	if image.Type.Class().Last {
		return nil
	}
	var tags []string
	for tag, d := range image.Tags() {
		if d == m.Descriptor.Digest {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return tags
}

// putManifest puts a manifest whose blobs and children are there.
func (x *execution) putManifest(ctx context.Context, image *plan.Image, m plan.Manifest) error {
	what := "put manifest " + m.Descriptor.Digest.String()
	put := func() error { return x.dst.PutManifest(ctx, image.Repository, m.Descriptor, m.Body) }
	if k, ok := x.dst.(keeper); ok {
		if tags := early(image, m); len(tags) > 0 {
			put = func() error { return k.Keep(ctx, image.Repository, m.Descriptor, m.Body, tags...) }
		}
	}
	if err := x.write(ctx, what, put); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// keepExisting has a keeper tag manifests of an image that it has: an earlier run may have ended
// before it did.
func (x *execution) keepExisting(ctx context.Context, image *plan.Image, existing []plan.Manifest) error {
	if _, ok := x.dst.(keeper); !ok {
		return nil
	}
	for _, m := range existing {
		if len(early(image, m)) == 0 {
			continue
		}
		if err := x.putManifest(ctx, image, m); err != nil {
			return err
		}
	}
	return nil
}
