package mirror

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestParseManifest_blobs(t *testing.T) {
	d := func(s string) string { return digest.FromString(s).String() }
	const layer, foreign = "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	body := fmt.Sprintf(`{"config":{"digest":%q,"size":1},"layers":[
		{"mediaType":%q,"digest":%q,"size":2},{"mediaType":%q,"digest":%q,"size":2},
		{"mediaType":%q,"digest":%q,"size":3,"urls":["https://example.com/x"]},
		{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar","digest":%q,"size":4},
		{"mediaType":%q,"digest":%q,"size":5,"urls":["https://example.com/x"]}],
		"blobs":[{"mediaType":%q,"digest":%q,"size":6}],"Layers":[]}`,
		d("config"), layer, d("twice"), layer, d("twice"), foreign, d("foreign"), d("nowhere else"), layer, d("elsewhere"), layer, d("artifact"))
	p, err := parseManifest([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range p.blobs() {
		got = append(got, b.Digest.String())
	}
	if want := []string{d("config"), d("twice"), d("nowhere else"), d("artifact")}; strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("blobs %v, want %v: each once, and none that is had elsewhere", got, want)
	}
	if n := p.elsewhere(); n != 2 {
		t.Errorf("%d layers are had elsewhere, want 2", n)
	}
	for name, body := range map[string]string{
		"no JSON":               `x`,
		"nothing":               `null`,
		"an error":              `{"errors":[{"code":"DENIED","message":"log in"}]}`,
		"schema 1":              `{"schemaVersion":1,"fsLayers":[{"blobSum":"` + d("x") + `"}]}`,
		"a digest that is not":  `{"layers":[{"digest":"sha256:1","size":1}]}`,
		"a digest nobody keeps": `{"layers":[{"digest":"sha384:` + strings.Repeat("0", 96) + `","size":1}]}`,
		"a path for a digest":   `{"manifests":[{"digest":"../../x","size":1}]}`,
		"a negative size":       `{"config":{"digest":"` + d("x") + `","size":-1}}`,
	} {
		if p, err := parseManifest([]byte(body)); err == nil {
			t.Errorf("%s reads as %+v", name, p)
		}
	}
}

// Each manifest is as large as one may be, and names another: what is kept of an image is bounded all the same.
func TestWalk_isBounded(t *testing.T) {
	read := 0
	w := &walk{seen: map[digest.Digest]bool{}, fetch: func(_ context.Context, ref string) (ocispec.Descriptor, []byte, error) {
		var body strings.Builder
		body.WriteString(`{"manifests":[`)
		if ref == "root" {
			for i := range maxManifests / 2 {
				fmt.Fprintf(&body, `{"digest":%q,"size":1},`, digest.FromString(fmt.Sprint(i)))
			}
		}
		fmt.Fprintf(&body, `{"digest":%q,"size":1}]}`, digest.FromString("last"))
		body.WriteString(strings.Repeat(" ", 4<<20-body.Len()))
		read += body.Len()
		return ocispec.Descriptor{Digest: digest.FromString("body of " + ref)}, []byte(body.String()), nil
	}}
	if _, err := w.manifest(t.Context(), "root", 0); err == nil || read > 2*maxImage {
		t.Errorf("%d MiB were read, %v", read>>20, err)
	}
}
