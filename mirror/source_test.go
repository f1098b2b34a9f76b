package mirror

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What a registry answers need not be an image.
func TestWalk_refuses(t *testing.T) {
	for name, body := range map[string]string{
		"an error":            `{"errors":[{"code":"DENIED","message":"log in"}]}`,
		"a path for a digest": `{"manifests":[{"mediaType":"x/y","digest":"../../x","size":1}]}`,
	} {
		w := &walk{seen: map[digest.Digest]bool{}, fetch: func(context.Context, string) (ocispec.Descriptor, []byte, error) {
			return ocispec.Descriptor{MediaType: "x/y"}, []byte(body), nil
		}}
		if _, err := w.manifest(t.Context(), "root", 0); err == nil {
			t.Errorf("%s is taken for an image", name)
		}
	}
}

// Each manifest is as large as one may be, and names another: the memory for an image
// is bounded all the same.
func TestWalk_isBounded(t *testing.T) {
	read := 0
	w := &walk{seen: map[digest.Digest]bool{}, fetch: func(_ context.Context, ref string) (ocispec.Descriptor, []byte, error) {
		var body strings.Builder
		body.WriteString(`{"manifests":[`)
		if ref == "root" {
			for i := range maxManifests / 2 {
				fmt.Fprintf(&body, `{"mediaType":"x/y","digest":%q,"size":1},`, digest.FromString(fmt.Sprint(i)))
			}
		}
		fmt.Fprintf(&body, `{"mediaType":"x/y","digest":%q,"size":1}]}`, digest.FromString("last"))
		body.WriteString(strings.Repeat(" ", 4<<20-body.Len()))
		read += body.Len()
		return ocispec.Descriptor{MediaType: "x/y", Digest: digest.FromString("body of " + ref)}, []byte(body.String()), nil
	}}
	if _, err := w.manifest(t.Context(), "root", 0); err == nil || read > 2*maxImage {
		t.Errorf("%d MiB were read, %v", read>>20, err)
	}
}
