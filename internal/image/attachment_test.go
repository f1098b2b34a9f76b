package image_test

import (
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
)

func TestAttachmentTags(t *testing.T) {
	want := []string{"sha256-aa.sig", "sha256-aa.att", "sha256-aa.sbom"}
	if got := image.AttachmentTags("sha256:aa"); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if got := image.AttachmentTags(digest.Digest("sha512:aa")); len(got) != 0 {
		t.Errorf("of a sha512: %v", got)
	}
}
