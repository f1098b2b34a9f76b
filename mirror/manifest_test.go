package mirror

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestParseManifest_blobs(t *testing.T) {
	d := func(s string) string { return digest.FromString(s).String() }
	const layer, foreign = "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	body := fmt.Sprintf(`{"config":{"digest":%q,"size":1},"layers":[
		{"mediaType":%q,"digest":%q,"size":2},{"mediaType":%q,"digest":%q,"size":2},
		{"mediaType":%q,"digest":%q,"size":3},
		{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar","digest":%q,"size":4},
		{"mediaType":%q,"digest":%q,"size":5,"urls":["https://example.com/x"]}]}`,
		d("config"), layer, d("twice"), layer, d("twice"), foreign, d("foreign"), d("nondistributable"), layer, d("elsewhere"))
	p, err := parseManifest([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range p.blobs() {
		got = append(got, b.Digest.String())
	}
	if want := []string{d("config"), d("twice")}; strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("blobs %v, want %v: each once, and none that is had elsewhere", got, want)
	}
	for name, body := range map[string]string{
		"no JSON":              `x`,
		"a digest that is not": `{"layers":[{"digest":"sha256:1","size":1}]}`,
		"a path for a digest":  `{"manifests":[{"digest":"../../x","size":1}]}`,
		"a negative size":      `{"config":{"digest":"` + d("x") + `","size":-1}}`,
	} {
		if p, err := parseManifest([]byte(body)); err == nil {
			t.Errorf("%s reads as %+v", name, p)
		}
	}
}
