package mirror

import (
	"context"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror/plan"
)

// recording is a destination that notes what it is asked for.
type recording struct {
	Destination
	blobs, manifests []digest.Digest
}

func (d *recording) Existing(_ context.Context, blobs, manifests map[string][]digest.Digest) (_, _, _ map[string][]digest.Digest, err error) {
	d.blobs, d.manifests = blobs["a"], manifests["a"]
	return blobs, manifests, nil, nil
}

// One digest can be wanted as a manifest and as a layer.
func TestInventory_asksForBothKinds(t *testing.T) {
	one, other := ocispec.Descriptor{Digest: digest.FromString("one")}, ocispec.Descriptor{Digest: digest.FromString("other")}
	image := &plan.Image{Repository: "a", Manifests: []plan.Manifest{{Descriptor: one}, {Descriptor: other, Blobs: []ocispec.Descriptor{one, one}}}}
	dst := &recording{}
	a := (&inventory{target: &target{dst: dst}}).ask(t.Context(), about(image))[0]
	if a.err != nil || !a.complete("a", image.Manifests[0]) || !a.complete("a", image.Manifests[1]) {
		t.Errorf("%+v", a)
	}
	if !slices.Equal(dst.blobs, []digest.Digest{one.Digest}) || len(dst.manifests) != 2 {
		t.Errorf("asked for blobs %v and manifests %v", dst.blobs, dst.manifests)
	}
}
