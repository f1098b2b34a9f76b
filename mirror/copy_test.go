package mirror

import (
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestShare_forgetsWhatNoImageNeeds(t *testing.T) {
	x := &execution{blobs: map[digest.Digest]*shared{}}
	one, two := digest.FromString("one"), digest.FromString("two")
	first := x.share([]ocispec.Descriptor{{Digest: one}, {Digest: two}})
	second := x.share([]ocispec.Descriptor{{Digest: two}})
	common := x.shared(two)
	first()
	if x.shared(one) != nil || x.shared(two) != common {
		t.Errorf("after the first image there is %v", x.blobs)
	}
	second()
	if len(x.blobs) != 0 {
		t.Errorf("after both there is %v", x.blobs)
	}
}
